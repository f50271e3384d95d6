"""The twelve promises, and the clauses of standards that tests may name."""

PROMISES: dict[int, tuple[str, str]] = {
    1: (
        "No secret twice",
        "However many nodes are provisioned, no private key, certificate, serial number, node id or topic "
        "of one is that of another.",
    ),
    2: (
        "Keys stay where they are",
        "A node's private key is in the identity partition of its flash and nowhere else: not on the host's "
        "disk, in a log, in the journal, in a test's report, in the list of processes, in the output or the "
        "memory of the command. Neither do passphrase and Wi-Fi password leak.",
    ),
    3: (
        "Only the right peer",
        "A certificate that is wrong in any way is refused by the node or by the broker, whichever it was "
        "shown to.",
    ),
    4: (
        "Never in the clear",
        "Without TLS a node says nothing: no byte of a topic, a reading or an answer leaves it unencrypted.",
    ),
    5: (
        "To each node its own",
        "A node cannot write as another, read another's commands, take another's place, or leave a last "
        "will in another's name.",
    ),
    6: (
        "Provisioning can be cut anywhere",
        "Killed at any step and run again, provisioning ends as if it had not been: one identity for one "
        "board, one board for one id, every certificate accounted for.",
    ),
    7: (
        "An identity survives a power cut",
        "At whichever write or erase the power goes while an identity is made or replaced, one valid "
        "identity is there afterwards if one was there before.",
    ),
    8: (
        "Damage is seen",
        "Flipped bits in the identity partition are detected and told, and the other slot is used.",
    ),
    9: (
        "Nothing left behind",
        "The flash of a decommissioned node holds no key, no certificate, no password and no reading.",
    ),
    10: (
        "The ledger tells of tampering",
        "A line of the authority's ledger that was edited, dropped, moved or cut off is found, and named.",
    ),
    11: (
        "The serial port is shut",
        "In the production profile nothing that is sent to the serial port stops the node or opens a prompt.",
    ),
    12: (
        "Bad input ends in a sentence",
        "Whatever a file or an argument holds, a command ends with one sentence and a documented exit code.",
    ),
}
"""What is promised, by its number: a title, and the promise in words."""

_IEC = "IEC 62443-4-2"
_ETSI = "ETSI EN 303 645"

CLAUSES: dict[str, str] = {
    f"{_IEC} CR 1.1": "Human user identification and authentication",
    f"{_IEC} CR 1.2": "Software process and device identification and authentication",
    f"{_IEC} CR 1.2 RE 1": "Unique identification and authentication",
    f"{_IEC} CR 1.4": "Identifier management",
    f"{_IEC} CR 1.5": "Authenticator management",
    f"{_IEC} CR 1.7": "Strength of password-based authentication",
    f"{_IEC} CR 1.8": "Public key infrastructure certificates",
    f"{_IEC} CR 1.9": "Strength of public key-based authentication",
    f"{_IEC} CR 1.9 RE 1": "Hardware security for public key-based authentication",
    f"{_IEC} CR 1.10": "Authenticator feedback",
    f"{_IEC} CR 2.1": "Authorization enforcement",
    f"{_IEC} CR 2.8": "Auditable events",
    f"{_IEC} CR 2.10": "Response to audit processing failures",
    f"{_IEC} CR 2.12": "Non-repudiation",
    f"{_IEC} EDR 2.13": "Use of physical diagnostic and test interfaces",
    f"{_IEC} CR 3.1": "Communication integrity",
    f"{_IEC} CR 3.1 RE 1": "Communication authentication",
    f"{_IEC} CR 3.3": "Security functionality verification",
    f"{_IEC} CR 3.4": "Software and information integrity",
    f"{_IEC} CR 3.5": "Input validation",
    f"{_IEC} CR 3.6": "Deterministic output",
    f"{_IEC} CR 3.7": "Error handling",
    f"{_IEC} CR 3.8": "Session integrity",
    f"{_IEC} CR 3.9": "Protection of audit information",
    f"{_IEC} EDR 3.11": "Physical tamper resistance and detection",
    f"{_IEC} EDR 3.13": "Provisioning asset owner roots of trust",
    f"{_IEC} EDR 3.14": "Integrity of the boot process",
    f"{_IEC} CR 4.1": "Information confidentiality",
    f"{_IEC} CR 4.2": "Information persistence",
    f"{_IEC} CR 4.2 RE 2": "Erase verification",
    f"{_IEC} CR 4.3": "Use of cryptography",
    f"{_IEC} CR 7.1": "Denial of service protection",
    f"{_IEC} CR 7.3": "Control system backup",
    f"{_IEC} CR 7.4": "Control system recovery and reconstitution",
    f"{_IEC} CR 7.7": "Least functionality",
    "NIST SP 800-88 2.5": "Types of sanitization: clear, purge, destroy",
    f"{_ETSI} 5.1-1": "No passwords that devices share",
    f"{_ETSI} 5.4-1": "Sensitive security parameters are stored securely",
    f"{_ETSI} 5.4-2": "A device's own identity resists tampering",
    f"{_ETSI} 5.4-3": "No critical security parameters in source code",
    f"{_ETSI} 5.4-4": "Critical security parameters are unique to a device",
    f"{_ETSI} 5.5-1": "Best practice cryptography for communication",
    f"{_ETSI} 5.5-4": "Device functionality by the network only after authentication",
    f"{_ETSI} 5.5-5": "Security-relevant changes by the network only after authentication",
    f"{_ETSI} 5.5-6": "Critical security parameters are encrypted in transit",
    f"{_ETSI} 5.5-7": "Critical security parameters stay confidential on remote interfaces",
    f"{_ETSI} 5.5-8": "Secure management of critical security parameters",
    f"{_ETSI} 5.6-1": "Unused interfaces are disabled",
    f"{_ETSI} 5.6-2": "No needless disclosure to the unauthenticated",
    f"{_ETSI} 5.6-3": "No physical interface needlessly exposed",
    f"{_ETSI} 5.6-4": "A debug interface that can be touched is disabled in software",
    f"{_ETSI} 5.7-1": "Software is verified by secure boot",
    f"{_ETSI} 5.9-1": "Resilience to outages of network and power",
    f"{_ETSI} 5.9-2": "Clean recovery after a loss of power",
    f"{_ETSI} 5.11-1": "User data can be erased from the device",
    f"{_ETSI} 5.13-1": "Input is validated",
}
"""IEC 62443-4-2:2019 by its titles, ETSI EN 303 645 V2.1.1 by the gist of its provisions,
NIST SP 800-88 Rev. 1 by its sections."""
