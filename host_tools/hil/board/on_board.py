"""What a board does for a test in its own Python; the modules are those of the stock image."""

# What host_tools.repl has loaded is there.
CODE = """
import hashlib
from esp32 import Partition

def attempted(do):
    try:
        return None, do()
    except Exception as e:
        said = io.StringIO()
        sys.print_exception(e, said)
        return said.getvalue().strip().split("\\n")[-1], None

def run(code):
    global failure
    failure = attempted(lambda: exec(code, globals()))[0]

def coded(data):
    return binascii.b2a_base64(data)[:-1].decode()

def digest(path):
    sha = hashlib.sha256()
    with open(path, "rb") as f:
        while True:
            part = f.read(1024)
            if not part:
                return coded(sha.digest())
            sha.update(part)

def look(path):
    if os.stat(path)[0] & 0x4000:
        return {name: look(path + "/" + name) for name in os.listdir(path)}
    return digest(path)

def look_at_all():
    return {name: look(name) for name in os.listdir()}

def read_file(path, at, size):
    with open(path, "rb") as f:
        f.seek(at)
        return coded(f.read(size))

def take_file(piece):
    path, at = eval(piece.readline())
    for i, letter in enumerate(path):
        if letter == "/" and i:
            try:
                os.mkdir(path[:i])
            except OSError as e:
                if e.errno != 17:
                    raise
    with open(path, "r+b" if at else "wb") as f:
        f.seek(at)
        f.write(piece.read())

def drop(path):
    if os.stat(path)[0] & 0x4000:
        for name in os.listdir(path):
            drop(path + "/" + name)
    os.remove(path)

def drop_all(paths):
    for path in paths:
        try:
            drop(path)
        except OSError as e:
            if e.errno != 2:
                raise

def place(label):
    for kind in (Partition.TYPE_DATA, Partition.TYPE_APP):
        for found in Partition.find(kind, label=label):
            return found
    raise KeyError(label)

def is_blank(data):
    return data.count(b"\\xff") == len(data)

def read_flash(label, at, size):
    data = bytearray(size)
    place(label).readblocks(at // 4096, data, at % 4096)
    return "" if is_blank(data) else coded(data)

def digest_flash(label):
    partition = place(label)
    sha = hashlib.sha256()
    data = bytearray(4096)
    for block in range(partition.info()[3] // 4096):
        partition.readblocks(block, data)
        sha.update(data)
    return coded(sha.digest())

def erase_flash(label, first, end):
    partition = place(label)
    data = bytearray(4096)
    for block in range(first, end):
        partition.readblocks(block, data)
        if not is_blank(data):
            partition.ioctl(6, block)

def take_flash(piece):
    label, at = eval(piece.readline())
    partition = place(label)
    if at % 4096 == 0:
        partition.ioctl(6, at // 4096)
    partition.writeblocks(at // 4096, piece.read(), at % 4096)

def about():
    gc.collect()
    return gc.mem_free(), ".".join(map(str, sys.implementation[1][:3]))
"""
