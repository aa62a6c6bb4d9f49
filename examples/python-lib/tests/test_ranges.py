import unittest

from ranges import Ranges, parse


class Parsing(unittest.TestCase):
    def test_touching_and_overlapping_ranges_merge(self):
        self.assertEqual(str(parse("7, 1-3, 2-5, 6")), "1-7")

    def test_what_cannot_be_read_is_named(self):
        for text, named in [("1-", "'1-'"), ("1,,2", "''"), ("a", "'a'"), ("-1", "'-1'"), ("٣", "'٣'")]:
            with self.subTest(text), self.assertRaisesRegex(ValueError, named):
                parse(text)

    def test_a_backward_range_is_refused(self):
        with self.assertRaisesRegex(ValueError, "runs backwards"):
            parse("9-1")


class Sets(unittest.TestCase):
    def test_operations_agree_with_plain_sets(self):
        texts = ["", "0", "1-3", "2-9,11", "5-6,8-20", "0-1,3-4,6-7,30"]
        for a in map(parse, texts):
            for b in map(parse, texts):
                self.assertEqual(set(a | b), set(a) | set(b))
                self.assertEqual(set(a & b), set(a) & set(b))
                self.assertEqual(len(a | b), len(set(a) | set(b)))

    def test_membership_needs_no_expansion(self):
        huge = parse("5-1000000000000,2000000000000")
        self.assertIn(999_999_999_999, huge)
        self.assertNotIn(4, huge)
        self.assertNotIn(1_500_000_000_000, huge)

    def test_equal_sets_are_equal_and_hash_alike(self):
        self.assertEqual(parse("1-2,3"), Ranges([(1, 3)]))
        self.assertEqual(len({parse("1-2,3"), parse("1-3")}), 1)

    def test_text_round_trips(self):
        self.assertEqual(str(parse("30,1-3,7")), "1-3,7,30")
