"""Puts firmware and settings on boards: only what differs, and all of it or nothing.

`plan` decides, `ending` is the program that makes the swap safe, `pieces` cuts what is sent, `on_board` is
the board's side of it; `board` brings one board up to date, `run` several side by side.
"""

from host_tools.deploy.board import Outcome
from host_tools.deploy.errors import DeployError
from host_tools.deploy.run import Result, deploy_all, firmware

__all__ = ["DeployError", "Outcome", "Result", "deploy_all", "firmware"]
