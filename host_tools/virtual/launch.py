"""Makes standard input the controlling terminal, then becomes the given program (run as a script).

So the program ends with its supervisor, however that ends: the terminal hangs up. It is a program of its
own because doing this between fork and exec is not safe in a supervisor that has threads.
"""

import fcntl
import os
import sys
import termios

if __name__ == "__main__":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.execv(sys.argv[1], sys.argv[1:])
