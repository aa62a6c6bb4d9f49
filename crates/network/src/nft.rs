//! Rules of the kernel's packet filter (nf_tables), over its netlink socket.
//!
//! A rule is a list of expressions that work on registers: load a field of the packet, compare it, act. The numbers are
//! those of `linux/netfilter/nf_tables.h`; what `nft --debug=netlink` prints for the same rule is what is written here.

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::netlink::{ACK, APPEND, CREATE, Message, tell};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const IPV4: u8 = 2;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;

/// The first of the kernel's registers; the verdict is number 0.
const REGISTER: u32 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const ACCEPT: u32 = 1;
const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

const TCP: u8 = 6;
const UDP: u8 = 17;
const DNS_PORT: u16 = 53;
const HOOK_OUTPUT: u32 = 3;
const PRIORITY_DNAT: i32 = -100;
const TABLE: &str = "paceline";
const CHAIN: &str = "out";

/// Sends what goes to anywhere but this namespace itself to our listeners on its loopback: every TCP connection to
/// `listener`, questions to any name server to port 53.
pub(crate) fn redirect(netfilter: BorrowedFd<'_>, own: Ipv4Addr, listener: u16) -> Result<(), Errno> {
    let rules = [
        destination_is([127, 0, 0, 0], [255, 0, 0, 0]).verdict(ACCEPT),
        destination_is(own.octets(), [255; 4]).verdict(ACCEPT),
        protocol_is(UDP).destination_port_is(DNS_PORT).redirect_to(DNS_PORT),
        protocol_is(TCP).destination_port_is(DNS_PORT).redirect_to(DNS_PORT),
        protocol_is(TCP).redirect_to(listener),
    ];
    let table = message(NEW_TABLE, CREATE).text(TABLE_NAME, TABLE);
    let chain = message(NEW_CHAIN, CREATE)
        .text(CHAIN_TABLE, TABLE)
        .text(CHAIN_NAME, CHAIN)
        .nest(CHAIN_HOOK, |hook| {
            hook.with(HOOK_NUMBER, &HOOK_OUTPUT.to_be_bytes()).with(HOOK_PRIORITY, &PRIORITY_DNAT.to_be_bytes())
        })
        .text(CHAIN_TYPE, "nat");
    let rules = rules.into_iter().map(|rule| rule.message(TABLE, CHAIN));
    batch(netfilter, [table, chain].into_iter().chain(rules).collect())
}

fn message(kind: u16, flags: u16) -> Message {
    Message::new(kind, ACK | flags, &[IPV4, 0, 0, 0])
}

/// All or nothing: the kernel takes changes of its tables as transactions only.
fn batch(netfilter: BorrowedFd<'_>, changes: Vec<Message>) -> Result<(), Errno> {
    let edge = |kind| Message::new(kind, 0, &[0, 0, 0, SUBSYSTEM as u8]);
    tell(netfilter, [vec![edge(BATCH_BEGIN)], changes, vec![edge(BATCH_END)]].concat())
}

/// The expressions of a rule so far.
struct Rule(Message);

fn destination_is(address: [u8; 4], mask: [u8; 4]) -> Rule {
    Rule(Message::part()).load(NETWORK_HEADER, 16, 4).masked(mask).equals(address.to_vec())
}

fn protocol_is(protocol: u8) -> Rule {
    let load = |data: Message| number(number(data, 1, REGISTER), 2, META_L4PROTO);
    Rule(Message::part()).then("meta", load).equals(vec![protocol])
}

impl Rule {
    fn destination_port_is(self, port: u16) -> Rule {
        self.load(TRANSPORT_HEADER, 2, 2).equals(port.to_be_bytes().to_vec())
    }

    fn redirect_to(self, port: u16) -> Rule {
        let port =
            move |data: Message| number(data, 1, REGISTER).nest(2, |value| value.with(DATA_VALUE, &port.to_be_bytes()));
        self.then("immediate", port).then("redir", |data| number(data, 1, REGISTER))
    }

    fn verdict(self, code: u32) -> Rule {
        self.then("immediate", move |data| {
            number(data, 1, 0).nest(2, |value| value.nest(DATA_VERDICT, |verdict| number(verdict, VERDICT_CODE, code)))
        })
    }

    fn load(self, header: u32, offset: u32, length: u32) -> Rule {
        self.then("payload", move |data| {
            number(number(number(number(data, 1, REGISTER), 2, header), 3, offset), 4, length)
        })
    }

    fn masked(self, mask: [u8; 4]) -> Rule {
        self.then("bitwise", move |data| {
            number(number(number(data, 1, REGISTER), 2, REGISTER), 3, 4)
                .nest(4, |value| value.with(DATA_VALUE, &mask))
                .nest(5, |value| value.with(DATA_VALUE, &[0; 4]))
        })
    }

    fn equals(self, value: Vec<u8>) -> Rule {
        self.then("cmp", move |data| {
            number(number(data, 1, REGISTER), 2, 0).nest(3, |data| data.with(DATA_VALUE, &value))
        })
    }

    fn then(self, name: &str, data: impl FnOnce(Message) -> Message) -> Rule {
        Rule(self.0.nest(LIST_ELEMENT, |element| element.text(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, data)))
    }

    fn message(self, table: &str, chain: &str) -> Message {
        let head = message(NEW_RULE, CREATE | APPEND).text(RULE_TABLE, table).text(RULE_CHAIN, chain);
        head.nest(RULE_EXPRESSIONS, |list| list.join(self.0))
    }
}

fn number(message: Message, kind: u16, value: u32) -> Message {
    message.with(kind, &value.to_be_bytes())
}
