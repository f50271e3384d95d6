from limpet import node

node.run(__name__ == "main")  # boot.py imports this file once it has locked the serial port
