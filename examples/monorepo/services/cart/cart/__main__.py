"""Reads lines ``ITEM PRICE QUANTITY`` and prints the total."""

import sys

from cart import Cart

cart = Cart()
for line in sys.stdin:
    item, price, quantity = line.split()
    cart.add(item, price, int(quantity))
print(cart.total())
