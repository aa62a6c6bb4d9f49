"""The invoice: net, tax and gross as text."""

from money import Money


def render(net: Money, tax_rate: int) -> str:
    tax = net.percent(tax_rate)
    rows = [("net", net), (f"tax {tax_rate} %", tax), ("total", net + tax)]
    return "\n".join(f"{name:<10}{str(amount):>12}" for name, amount in rows)
