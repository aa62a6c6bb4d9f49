"""``invoice NET RATE`` prints an invoice."""

import sys

from invoice import render
from money import Money

print(render(Money.parse(sys.argv[1]), int(sys.argv[2])))
