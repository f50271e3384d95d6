from limpet import node

node.run()
