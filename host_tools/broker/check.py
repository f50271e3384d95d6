"""Looks through a broker's folder, and tries Mosquitto on it (`limpet broker check`)."""

import datetime
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from host_tools.broker import public, run, tries
from host_tools.broker.config import check_pair
from host_tools.broker.findings import Finding, has_failed, looked_at
from host_tools.broker.project import (
    BrokerFolder,
    Settings,
    acl_text,
    check_place,
    configuration_text,
)
from host_tools.ca.authority import CertificateAuthority
from host_tools.errors import LimpetError
from host_tools.pki import files
from host_tools.pki.names import parse_ip

_USABLE = 4


def check(path: Path, authority: CertificateAuthority | None) -> Iterator[Finding]:
    """What is found, one after the other. Where a file cannot be used, nothing is tried on it.

    With an open `authority` clients are made to come in as well; their certificates are revoked at the end.
    Raises LimpetError if `path` is no broker's folder.
    """
    folder = BrokerFolder(path)
    settings = folder.load()
    found = examine(folder, settings, datetime.datetime.now(datetime.UTC))
    yield from found
    if has_failed(found[:_USABLE]):
        yield Finding("Mosquitto starts on it", None, "mend the rest first")
        return
    yield from tries.tries(folder, settings, authority)


def examine(folder: BrokerFolder, settings: Settings, now: datetime.datetime) -> list[Finding]:
    """What the files themselves show at `now`; without the first ones of these there is nothing to try."""
    return [
        looked_at("files are there", lambda: _files(folder)),
        looked_at("files are closed to others", lambda: _rights(folder, settings)),
        looked_at(
            "certificate: key, chain, usage, names, dates", lambda: _certificate(folder, settings, now)
        ),
        looked_at("CRL: signed, in force", lambda: _crl(folder, now)),
        looked_at("acl is as limpet writes it", lambda: _same(folder.acl, acl_text(settings))),
        looked_at(
            "mosquitto.conf is as limpet writes it",
            lambda: _same(folder.configuration, configuration_text(settings, folder)),
        ),
        looked_at("nothing ends within a month", lambda: _ends(folder, now)),
    ]


def _files(folder: BrokerFolder) -> None:
    for path in folder.files():
        if not files.exists(path):
            raise LimpetError(f"{path} is missing: make it with 'limpet broker init --again'.")
        if not files.read(path, "file"):
            raise LimpetError(f"{path} is empty: make it with 'limpet broker init --again'.")


def _rights(folder: BrokerFolder, settings: Settings) -> None:
    # Where root starts it, Mosquitto's account reads by its group; else nobody but the owner does.
    others = stat.S_IRWXO | (stat.S_IWGRP if settings.user else stat.S_IRWXG)
    for path in (folder.path, folder.store, *folder.files()):
        try:
            found = path.stat()
        except OSError as error:
            raise LimpetError(f"{path} cannot be looked at: {error.strerror}.") from None
        if found.st_mode & others:
            raise LimpetError(
                f"{path} has the mode {stat.S_IMODE(found.st_mode):o}, so others may read or change it: "
                f"chmod {stat.S_IMODE(found.st_mode) & ~others:o}."
            )
    owner = check_place(folder.path, settings)
    if owner and os.geteuid() == 0 and owner.uid != 0:
        for path in (folder.path, *folder.files()):
            if path.stat().st_gid != owner.gid:
                raise LimpetError(
                    f"{path} is not of the group of {owner.name}, who Mosquitto runs as: make it anew with "
                    "'limpet broker init --again'."
                )


def _certificate(folder: BrokerFolder, settings: Settings, now: datetime.datetime) -> None:
    leaf = check_pair(folder.certificate, folder.key)
    chain = public.certificates(files.read(folder.certificate, "certificate"), folder.certificate)
    trusted = public.certificates(files.read(folder.trusted, "certificate"), folder.trusted)
    roots = [each for each in trusted if each.issuer == each.subject]
    if not roots:
        raise LimpetError(f"{folder.trusted} has no root in it: copy it again from the authority.")
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if not begin <= now < end:
        raise LimpetError(
            f"The broker's certificate is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}: set this machine's "
            "clock, or issue a new one with 'limpet broker init --again'."
        )
    for name in settings.names:
        ip = parse_ip(name)
        subject = x509.IPAddress(ip) if ip else x509.DNSName(name)
        verifier = PolicyBuilder().store(Store(roots)).time(now).build_server_verifier(subject)
        try:
            # As a node does: what the broker shows must lead to a root by itself.
            verifier.verify(leaf, chain[1:])
        except VerificationError as error:
            raise LimpetError(
                f"A node that calls the broker {name} would not trust it ({error}): issue a new certificate "
                "with 'limpet broker init --again'."
            ) from error
    try:
        usages = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        usages = []
    if usages != [ExtendedKeyUsageOID.SERVER_AUTH]:
        raise LimpetError("The broker's certificate is good for more than to serve: issue a new one.")


def _crl(folder: BrokerFolder, now: datetime.datetime) -> None:
    found = public.lists(files.read(folder.crl, "CRL"), folder.crl)
    signers = public.signers(files.read(folder.trusted, "certificate"), folder.trusted)
    public.check_lists(found, signers, folder.crl, now)
    leaf = check_pair(folder.certificate, folder.key)
    if leaf.serial_number in public.revoked(found):
        raise LimpetError(
            "The broker's own certificate is revoked: issue a new one with 'limpet broker init --again'."
        )


def _same(path: Path, text: str) -> None:
    is_there = files.read(path, "file").decode(errors="replace").splitlines()
    wanted = text.splitlines()
    for number, line in enumerate(wanted, 1):
        if number > len(is_there) or is_there[number - 1] != line:
            raise LimpetError(
                f"{path}:{number} should say {line!r}: 'limpet broker init --again' writes it anew."
            )
    if len(is_there) > len(wanted):
        raise LimpetError(
            f"{path}:{len(wanted) + 1} is not from limpet: 'limpet broker init --again' writes it anew."
        )


def _ends(folder: BrokerFolder, now: datetime.datetime) -> None:
    for text in run.expiring(folder, now):
        raise LimpetError(text)
