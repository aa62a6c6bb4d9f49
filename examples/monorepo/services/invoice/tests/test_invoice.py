import unittest

from invoice import render
from money import Money


class Invoices(unittest.TestCase):
    def test_an_invoice_adds_up(self):
        text = render(Money.parse("24.60"), 19)
        self.assertEqual([line.split()[-1] for line in text.splitlines()], ["24.60", "4.67", "29.27"])

    def test_columns_line_up(self):
        self.assertEqual({len(line) for line in render(Money(1), 7).splitlines()}, {22})
