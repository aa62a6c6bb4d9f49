//! The addresses that names get inside of a step: one each, from a range that no machine has.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// 198.18.0.0/15: set aside for tests of network devices (RFC 2544), so nobody's server is hidden by it.
const RANGE: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const RANGE_BITS: u32 = 15;
/// The step's own address, beside loopback. Programs that see nothing but loopback think they are offline (the resolver
/// of the C library with `AI_ADDRCONFIG`, for one).
pub(crate) const OWN: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const FIRST: u32 = RANGE + 2;
/// Names of one step. A crawler has thousands; more is a flood.
pub(crate) const NAMES_MAX: usize = 16_384;

/// Whether the address is from the range.
pub(crate) fn is_ours(address: Ipv4Addr) -> bool {
    u32::from(address) >> (32 - RANGE_BITS) == RANGE >> (32 - RANGE_BITS)
}

/// Which name has which address. A name keeps its address as long as the step runs.
#[derive(Debug, Default)]
pub(crate) struct Names {
    by_name: BTreeMap<String, Ipv4Addr>,
    in_order: Vec<String>,
}

impl Names {
    /// The address of a name, new or as before; `None` when there are [`NAMES_MAX`] others.
    pub(crate) fn address(&mut self, name: &str) -> Option<Ipv4Addr> {
        if let Some(&known) = self.by_name.get(name) {
            return Some(known);
        }
        let place = u32::try_from(self.in_order.len()).ok().filter(|_| self.in_order.len() < NAMES_MAX)?;
        let address = Ipv4Addr::from(FIRST + place);
        self.by_name.insert(name.to_owned(), address);
        self.in_order.push(name.to_owned());
        Some(address)
    }

    /// The name that was given this address.
    pub(crate) fn name(&self, address: Ipv4Addr) -> Option<&str> {
        let place = u32::from(address).checked_sub(FIRST)?;
        self.in_order.get(usize::try_from(place).ok()?).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_address_and_the_address_its_name() {
        let mut names = Names::default();
        let a = names.address("a.example.com").expect("room");
        let b = names.address("b.example.com").expect("room");
        assert!(is_ours(a) && is_ours(b) && a != b && a != OWN);
        assert_eq!(names.address("a.example.com"), Some(a));
        assert_eq!((names.name(a), names.name(b)), (Some("a.example.com"), Some("b.example.com")));
        assert_eq!((names.name(OWN), names.name(Ipv4Addr::new(198, 19, 0, 1))), (None, None));
    }

    #[test]
    fn a_flood_of_names_ends_at_the_bound() {
        let mut names = Names::default();
        let given = (0..NAMES_MAX + 10).filter(|n| names.address(&format!("n{n}.example.com")).is_some()).count();
        assert_eq!(given, NAMES_MAX);
        assert!(names.address("n0.example.com").is_some());
    }
}
