import contextlib
import io
import unittest

from ranges.__main__ import main


class Command(unittest.TestCase):
    def answer(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(arguments))
        return code, out.getvalue() + err.getvalue()

    def test_merged_ranges_are_printed_with_their_count(self):
        self.assertEqual(self.answer("1-3", "2-7"), (0, "1-7 (7)\n"))

    def test_bad_input_is_an_error_not_a_traceback(self):
        self.assertEqual(self.answer("x"), (1, "ranges: 'x' is neither a number nor a range like 3-7\n"))
        self.assertEqual(self.answer()[0], 2)
