import unittest

from cart import Cart


class Carts(unittest.TestCase):
    def test_the_total_counts_every_line(self):
        cart = Cart()
        cart.add("tea", "4.20", 2)
        cart.add("cup", "12")
        cart.add("tea", "4.20")
        self.assertEqual(str(cart.total()), "24.60")

    def test_a_cart_has_bounds(self):
        cart = Cart()
        with self.assertRaisesRegex(ValueError, "1 to 99"):
            cart.add("tea", "4.20", 100)
