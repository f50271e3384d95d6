"""Rig files: the TOML that says where a board is, what is wired to it, and what the rig can do with it.

docs/rigs.md describes the file, rigs/virtual.toml is one.
"""

from host_tools.hil.rigs.load import FOLDER, UnknownRig, known_rigs, load_all, load_rig, sound_rigs
from host_tools.hil.rigs.model import EmulatorSpec, RigFile, Rung, WifiSpec
from host_tools.hil.rigs.needs import UnknownCapability, capabilities, check_needs, missing
from host_tools.hil.rigs.port import Place, PortChoice
from host_tools.hil.rigs.power import PowerSpec
from host_tools.hil.rigs.stimulus import StimulusSpec

__all__ = [
    "FOLDER",
    "EmulatorSpec",
    "Place",
    "PortChoice",
    "PowerSpec",
    "RigFile",
    "Rung",
    "StimulusSpec",
    "UnknownCapability",
    "UnknownRig",
    "WifiSpec",
    "capabilities",
    "check_needs",
    "known_rigs",
    "load_all",
    "load_rig",
    "missing",
    "sound_rigs",
]
