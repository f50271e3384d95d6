"""What locking a board means for limpet: what it protects, what it does not, and what no longer works."""

from host_tools.boards import Board


def meaning(board: Board) -> tuple[str, ...]:
    """Sentences for people, the gravest first."""
    plain = ", ".join(each.name for each in board.partition if each.name in ("identity", "spool", "vfs"))
    return (
        "MicroPython's own images do not start on such a board: they are not signed, and their bootloader "
        "checks no signature. You need a build of your own, with ESP-IDF's options for both features.",
        f"The partitions {plain} stay in plain text, and the node's private key with them: whoever reads the "
        "flash chip itself has the key. An encrypted partition takes whole blocks of 16 bytes, each once "
        "after it was erased; identity and spool are written in pieces of any length.",
        "Secure boot looks at the bootloader and at MicroPython, not at the Python files in vfs: whoever can "
        "write the flash can put other files there. Only a build that has the firmware frozen into it, and "
        "runs nothing from vfs, closes that.",
        "limpet flash, provision and image show refuse such a board. Give the node its identity before you "
        "lock it. What works by the REPL or over MQTT touches only what stays in plain text, and goes on.",
        "None of these steps was tried by limpet's authors on a real board: try them on one you can lose.",
    )
