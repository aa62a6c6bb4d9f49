import unittest

from money import Money


class Amounts(unittest.TestCase):
    def test_amounts_round_trip(self):
        for text in ["0.00", "0.05", "12.50", "1000000.99"]:
            self.assertEqual(str(Money.parse(text)), text)

    def test_what_is_not_an_amount_is_refused(self):
        for text in ["", "1.5", "-1", "1,50", "1.500", "x"]:
            with self.subTest(text), self.assertRaises(ValueError):
                Money.parse(text)

    def test_a_tax_is_rounded_half_up(self):
        self.assertEqual(str(Money(50).percent(19)), "0.10")
        self.assertEqual(str(Money(250).percent(1)), "0.03")

    def test_a_sum_of_cents_is_exact(self):
        self.assertEqual(sum((Money(10) for _ in range(10)), Money(0)), Money(100))
