"""Flash encryption and secure boot: the eFuses they need, told and rehearsed. Nothing here burns any."""
