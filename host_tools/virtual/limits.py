"""What the system allows a process that runs many virtual boards."""

import resource


def allow_files(count: int) -> None:
    """Raise the limit of open files, 1024 or even 256 as a rule, to `count` where it is lower and may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
