"""The cart: what is bought, how often, for how much."""

from money import Money

QUANTITY_MAX = 99


class Cart:
    def __init__(self):
        self._lines: dict[str, tuple[Money, int]] = {}

    def add(self, item: str, price: str, quantity: int = 1) -> None:
        known = self._lines.get(item, (Money.parse(price), 0))
        if not 1 <= known[1] + quantity <= QUANTITY_MAX:
            raise ValueError(f"{item}: a cart holds 1 to {QUANTITY_MAX} of one item")
        self._lines[item] = (known[0], known[1] + quantity)

    def total(self) -> Money:
        return sum((price * quantity for price, quantity in self._lines.values()), Money(0))
