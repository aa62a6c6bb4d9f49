//! Mutations of real pipelines, the same ones in every run: nothing panics, nothing hangs, and a pipeline exists
//! exactly if there are no errors ([`lang::fuzz_pipeline`] asserts it).

use crate::pipelines::{COMMON, EVERYTHING};

/// Rounds of one test run; the fuzz targets in `fuzz/` go on from here.
const ROUNDS: u32 = 3_000;

/// Marsaglia's xorshift: the same mutations on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

const PIECES: [&str; 36] = [
    "\n",
    "  ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "|\n",
    ">\n",
    "&a ",
    "*a",
    "!!str ",
    "<<: ",
    "${{ ",
    " }}",
    "\t",
    "\0",
    "\u{FEFF}",
    "é",
    "---\n",
    "#",
    "steps:",
    "use: go-test",
    "matrix:",
    "${{ params.dir }}",
    "${{ matrix.go }}",
    "null",
    "~",
    "99999999999999999999",
    "1.20",
    "$(",
    "<<'E'\n",
    "# file: ci/common.yaml\n",
];

fn mutate(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(6) {
        let at = dice.below(bytes.len() + 1);
        let to = (at + dice.below(40)).min(bytes.len());
        match dice.below(6) {
            0 => drop(bytes.drain(at..to)),
            1 => drop(bytes.splice(at..at, PIECES[dice.below(PIECES.len())].bytes())),
            2 => drop(bytes.splice(at..to, PIECES[dice.below(PIECES.len())].bytes())),
            3 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
            4 => {
                let copy = bytes[at..to].to_vec();
                let there = dice.below(bytes.len() + 1);
                bytes.splice(there..there, copy);
            }
            _ => bytes.truncate(bytes.len() - dice.below(bytes.len() / 4 + 1)),
        }
    }
    bytes
}

#[test]
fn no_mutation_of_a_pipeline_makes_it_panic() {
    let small = "name: ci\nsteps:\n  - id: a\n    cmd: |\n      echo ${{ git.branch }} 'x' <<E\n      y\n      E\n  - { id: u, use: t, depends_on: [a], with: { p: \"${{ 1 + 2 }}\" } }\ntemplates:\n  t: { params: { p: { type: integer } }, steps: [{ id: b, cmd: \"seq ${{ params.p }}\" }] }\n";
    let seeds = [format!("{EVERYTHING}# file: ci/common.yaml\n{COMMON}"), small.to_string(), COMMON.to_string()];
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for round in 0..ROUNDS {
        let seed = &seeds[if round % 8 == 0 { 0 } else { 1 + dice.below(2) }];
        let bytes = mutate(seed.as_bytes(), &mut dice);
        lang::fuzz_pipeline(&bytes);
    }
}
