//! Rules of the kernel's packet filter (nf_tables), over its netlink socket.
//!
//! A rule is a list of expressions that work on registers: load a field of the packet, compare it, act. The numbers are
//! those of `linux/netfilter/nf_tables.h`.

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

const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const CT_STATE: u32 = 0;
const CT_NEW: u32 = 8;
const DROP: u32 = 0;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const INTERFACE_BYTES: usize = 16;
const SOURCE_AT: u32 = 12;
const DESTINATION_AT: u32 = 16;

const TCP: u8 = 6;
const UDP: u8 = 17;
const DNS_PORT: u16 = 53;
/// The table goes when the socket that made it is closed (`NFT_TABLE_F_OWNER`, Linux 5.12): a process that is killed
/// leaves nothing.
const OWNED: u32 = 2;
const TABLE_FLAGS: u16 = 2;
const TABLE: &str = "paceline";

/// Where a chain sits.
struct Hook {
    chain: &'static str,
    kind: &'static str,
    number: u32,
    priority: i32,
}

const OUTPUT: Hook = Hook { chain: "out", kind: "nat", number: 3, priority: -100 };
const INPUT: Hook = Hook { chain: "in", kind: "filter", number: 1, priority: -10 };
const FORWARD: Hook = Hook { chain: "forward", kind: "filter", number: 2, priority: -10 };
const POSTROUTING: Hook = Hook { chain: "post", kind: "nat", number: 4, priority: 100 };

/// An address block: its first address and its mask.
pub(crate) type Block = ([u8; 4], [u8; 4]);

/// Sends what goes to anywhere but this namespace itself to our listeners on its loopback: every TCP connection to
/// `listener`, questions to any name server to port 53.
pub(crate) fn redirect(netfilter: BorrowedFd<'_>, own: Ipv4Addr, listener: u16) -> Result<(), Errno> {
    let rules = vec![
        rule().to(([127, 0, 0, 0], [255, 0, 0, 0])).verdict(ACCEPT),
        rule().to((own.octets(), [255; 4])).verdict(ACCEPT),
        rule().protocol(UDP).destination_port(DNS_PORT).redirect_to(DNS_PORT),
        rule().protocol(TCP).destination_port(DNS_PORT).redirect_to(DNS_PORT),
        rule().protocol(TCP).redirect_to(listener),
    ];
    table(netfilter, TABLE, 0, vec![(OUTPUT, rules)])
}

/// Lets what comes from this interface of the host out into the world under the host's address, and only answers back
/// in. Nothing reaches the `forbidden` blocks, neither through the host nor on it.
pub(crate) fn masquerade(
    netfilter: BorrowedFd<'_>,
    interface: &str,
    own: Block,
    forbidden: &[Block],
) -> Result<(), Errno> {
    let drop = |block: &Block| rule().interface(META_IIFNAME, interface, EQUAL).to(*block).verdict(DROP);
    let mut forward: Vec<Rule> = forbidden.iter().map(drop).collect();
    forward.push(rule().interface(META_IIFNAME, interface, EQUAL).from(own, NOT_EQUAL).verdict(DROP));
    forward.push(rule().interface(META_OIFNAME, interface, EQUAL).new_connection().verdict(DROP));
    let masquerade = rule().from(own, EQUAL).interface(META_OIFNAME, interface, NOT_EQUAL).masquerade();
    let chains =
        vec![(INPUT, forbidden.iter().map(drop).collect()), (FORWARD, forward), (POSTROUTING, vec![masquerade])];
    table(netfilter, interface, OWNED, chains)
}

/// Makes a table with these chains, all or nothing: the kernel takes changes as transactions only.
fn table(netfilter: BorrowedFd<'_>, name: &str, flags: u32, chains: Vec<(Hook, Vec<Rule>)>) -> Result<(), Errno> {
    let edge = |kind| Message::new(kind, 0, &[0, 0, 0, SUBSYSTEM as u8]);
    let mut changes =
        vec![edge(BATCH_BEGIN), number(message(NEW_TABLE, CREATE).text(TABLE_NAME, name), TABLE_FLAGS, flags)];
    for (hook, rules) in chains {
        changes.push(chain(name, &hook));
        changes.extend(rules.into_iter().map(|rule| rule.message(name, hook.chain)));
    }
    changes.push(edge(BATCH_END));
    tell(netfilter, changes)
}

fn chain(table: &str, hook: &Hook) -> Message {
    let place =
        |place: Message| number(place, HOOK_NUMBER, hook.number).with(HOOK_PRIORITY, &hook.priority.to_be_bytes());
    message(NEW_CHAIN, CREATE)
        .text(CHAIN_TABLE, table)
        .text(CHAIN_NAME, hook.chain)
        .nest(CHAIN_HOOK, place)
        .text(CHAIN_TYPE, hook.kind)
}

fn message(kind: u16, flags: u16) -> Message {
    Message::new(kind, ACK | flags, &[IPV4, 0, 0, 0])
}

/// The expressions of a rule so far.
struct Rule(Message);

fn rule() -> Rule {
    Rule(Message::part())
}

impl Rule {
    fn to(self, block: Block) -> Rule {
        self.load(NETWORK_HEADER, DESTINATION_AT, 4).masked(block.1).compares(EQUAL, &block.0)
    }

    fn from(self, block: Block, operation: u32) -> Rule {
        self.load(NETWORK_HEADER, SOURCE_AT, 4).masked(block.1).compares(operation, &block.0)
    }

    fn protocol(self, protocol: u8) -> Rule {
        self.meta(META_L4PROTO).compares(EQUAL, &[protocol])
    }

    fn interface(self, key: u32, name: &str, operation: u32) -> Rule {
        let mut padded = name.as_bytes().to_vec();
        padded.resize(INTERFACE_BYTES, 0);
        self.meta(key).compares(operation, &padded)
    }

    fn new_connection(self) -> Rule {
        // The state is a number of the host's byte order, unlike what packets hold.
        self.then("ct", |data| number(number(data, 1, REGISTER), 2, CT_STATE))
            .masked(CT_NEW.to_ne_bytes())
            .compares(NOT_EQUAL, &[0; 4])
    }

    fn masquerade(self) -> Rule {
        self.then("masq", |data| data)
    }

    fn meta(self, key: u32) -> Rule {
        self.then("meta", |data| number(number(data, 1, REGISTER), 2, key))
    }

    fn destination_port(self, port: u16) -> Rule {
        self.load(TRANSPORT_HEADER, 2, 2).compares(EQUAL, &port.to_be_bytes())
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

    fn compares(self, operation: u32, value: &[u8]) -> Rule {
        self.then("cmp", |data| {
            number(number(data, 1, REGISTER), 2, operation).nest(3, |data| data.with(DATA_VALUE, value))
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
