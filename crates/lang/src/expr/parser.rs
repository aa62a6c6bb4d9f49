//! Tokens to a syntax tree: a Pratt parser over CEL's grammar, bounded in nesting and in depth.

use std::ops::Range;

use model::expr::{BinaryOp, UnaryOp, Value};
use model::limits::{EXPR_DEPTH_MAX, EXPR_TREE_DEPTH_MAX};

use super::lexer::{Token, TokenKind, tokens};
use super::{Fault, codes, foreign};

/// An expression as written.
#[derive(Debug)]
pub(super) struct Node {
    pub kind: NodeKind,
    pub range: Range<usize>,
    /// Levels of the tree from here.
    depth: usize,
}

/// The forms of an expression as written.
#[derive(Debug)]
pub(super) enum NodeKind {
    Literal(Value),
    Name(String),
    /// `of.name`, with the range of the name.
    Select(Box<Node>, String, Range<usize>),
    Index(Box<Node>, Box<Node>),
    Unary(UnaryOp, Box<Node>),
    /// With the range of the operator.
    Binary(BinaryOp, Box<Node>, Box<Node>, Range<usize>),
    Choice(Box<Node>, Box<Node>, Box<Node>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Call(Call),
}

/// `name(arguments)` or `target.name(arguments)`.
#[derive(Debug)]
pub(super) struct Call {
    pub target: Option<Box<Node>>,
    pub name: String,
    pub name_range: Range<usize>,
    pub arguments: Vec<Node>,
}

/// CEL keeps these for the languages that embed it.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Signs and how tightly they bind; all lean to the left.
const OPERATORS: [(&str, u8, BinaryOp); 13] = [
    ("||", 1, BinaryOp::Or),
    ("&&", 2, BinaryOp::And),
    ("==", 3, BinaryOp::Equal),
    ("!=", 3, BinaryOp::NotEqual),
    ("<", 3, BinaryOp::Less),
    ("<=", 3, BinaryOp::LessEqual),
    (">", 3, BinaryOp::Greater),
    (">=", 3, BinaryOp::GreaterEqual),
    ("+", 4, BinaryOp::Add),
    ("-", 4, BinaryOp::Subtract),
    ("*", 5, BinaryOp::Multiply),
    ("/", 5, BinaryOp::Divide),
    ("%", 5, BinaryOp::Remainder),
];
const RELATION: u8 = 3;

/// The tree of a source, or the first thing that is wrong with it.
pub(super) fn parse(source: &str) -> Result<Node, Fault> {
    let mut parser = Parser { source, tokens: tokens(source), at: 0, nesting: 0 };
    if matches!(parser.token().kind, TokenKind::End) {
        return Err(Fault::new(&codes::SYNTAX, 0..source.len(), "there is no expression here", "empty"));
    }
    let node = parser.expression()?;
    match parser.token().kind {
        TokenKind::End => Ok(node),
        _ => Err(parser.unexpected("an operator or the end of the expression")),
    }
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Token>,
    at: usize,
    nesting: usize,
}

impl Parser<'_> {
    /// The next token; at the end always the last one.
    fn token(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn advance(&mut self) -> Range<usize> {
        let range = self.token().range.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        range
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.token().kind, TokenKind::Sign(found) if found == sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        if found {
            self.advance();
        }
        found
    }

    fn end_of_last(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |last| self.tokens[last].range.end)
    }

    fn expression(&mut self) -> Result<Node, Fault> {
        self.nested(|parser| {
            let condition = parser.binary(0)?;
            if !parser.take("?") {
                return Ok(condition);
            }
            let yes = parser.binary(0)?;
            if !parser.take(":") {
                return Err(parser.unexpected("`:` and the other choice"));
            }
            let no = parser.expression()?;
            let range = condition.range.start..no.range.end;
            let depth = condition.depth.max(yes.depth).max(no.depth);
            parser.node(NodeKind::Choice(condition.into(), yes.into(), no.into()), range, depth)
        })
    }

    fn nested(&mut self, parse: impl FnOnce(&mut Self) -> Result<Node, Fault>) -> Result<Node, Fault> {
        if self.nesting == EXPR_DEPTH_MAX {
            let message = format!("an expression is nested at most {EXPR_DEPTH_MAX} levels deep");
            return Err(Fault::new(&codes::LIMIT, self.token().range.clone(), message, "too deep"));
        }
        self.nesting += 1;
        let node = parse(self);
        self.nesting -= 1;
        node
    }

    /// Makes a node over children of this depth.
    fn node(&self, kind: NodeKind, range: Range<usize>, below: usize) -> Result<Node, Fault> {
        if below >= EXPR_TREE_DEPTH_MAX {
            let message = format!("an expression has at most {EXPR_TREE_DEPTH_MAX} operators in a row");
            return Err(Fault::new(&codes::LIMIT, range, message, "too many"));
        }
        Ok(Node { kind, range, depth: below + 1 })
    }

    fn binary(&mut self, min_binding: u8) -> Result<Node, Fault> {
        let mut left = self.unary()?;
        while let Some((binding, op)) = self.operator() {
            if binding <= min_binding {
                break;
            }
            let at = self.advance();
            let right = self.binary(binding)?;
            let range = left.range.start..right.range.end;
            let depth = left.depth.max(right.depth);
            left = self.node(NodeKind::Binary(op, left.into(), right.into(), at), range, depth)?;
        }
        Ok(left)
    }

    fn operator(&self) -> Option<(u8, BinaryOp)> {
        match &self.token().kind {
            TokenKind::Sign(sign) => {
                OPERATORS.into_iter().find(|(known, ..)| known == sign).map(|(_, binding, op)| (binding, op))
            }
            TokenKind::Name(name) if name == "in" => Some((RELATION, BinaryOp::In)),
            _ => None,
        }
    }

    fn unary(&mut self) -> Result<Node, Fault> {
        let op = match self.token().kind {
            TokenKind::Sign("!") => UnaryOp::Not,
            TokenKind::Sign("-") => UnaryOp::Minus,
            _ => return self.member(),
        };
        let start = self.advance().start;
        if op == UnaryOp::Minus
            && let Some(number) = self.negative_number()
        {
            let range = start..self.advance().end;
            let literal = self.node(NodeKind::Literal(number), range, 0)?;
            return self.members(literal);
        }
        let of = self.nested(Self::unary)?;
        let (range, depth) = (start..of.range.end, of.depth);
        self.node(NodeKind::Unary(op, of.into()), range, depth)
    }

    /// The number behind a minus sign, with it: the smallest int has no positive twin.
    fn negative_number(&self) -> Option<Value> {
        match self.token().kind {
            TokenKind::Int(number) => 0i64.checked_sub_unsigned(number).map(Value::Int),
            TokenKind::Double(number) => Some(Value::Float(-number)),
            _ => None,
        }
    }

    fn member(&mut self) -> Result<Node, Fault> {
        let primary = self.primary()?;
        self.members(primary)
    }

    /// What stands behind a value: `.name`, `.name(…)`, `[…]`.
    fn members(&mut self, mut node: Node) -> Result<Node, Fault> {
        loop {
            let (start, depth) = (node.range.start, node.depth);
            if self.take(".") {
                let (name, name_range) = self.member_name(&node)?;
                if self.is("(") {
                    node = self.call(Some(node), name, name_range)?;
                } else {
                    let range = start..name_range.end;
                    node = self.node(NodeKind::Select(node.into(), name, name_range), range, depth)?;
                }
            } else if self.is("[") {
                let open = self.advance();
                let key = self.expression()?;
                self.close("]", open)?;
                let (range, depth) = (start..self.end_of_last(), depth.max(key.depth));
                node = self.node(NodeKind::Index(node.into(), key.into()), range, depth)?;
            } else {
                return Ok(node);
            }
        }
    }

    /// A name behind a dot. Directly behind `steps.` it may have dashes, as step ids do: a step is no number, so
    /// there is nothing to subtract.
    fn member_name(&mut self, of: &Node) -> Result<(String, Range<usize>), Fault> {
        let TokenKind::Name(name) = &self.token().kind else {
            return Err(self.unexpected("a name"));
        };
        let name = name.clone();
        let mut range = self.advance();
        if !matches!(&of.kind, NodeKind::Name(root) if root == "steps") {
            return Ok((name, range));
        }
        let first = range.clone();
        while self.token().range.start == range.end
            && matches!(self.token().kind, TokenKind::Name(_) | TokenKind::Int(_) | TokenKind::Sign("-"))
        {
            range.end = self.advance().end;
        }
        let name = if range == first { name } else { self.source[range.clone()].to_string() };
        Ok((name, range))
    }

    fn call(&mut self, target: Option<Node>, name: String, name_range: Range<usize>) -> Result<Node, Fault> {
        let open = self.advance();
        let arguments = self.items(")", open)?;
        let start = target.as_ref().map_or(name_range.start, |target| target.range.start);
        let depth = arguments.iter().chain(&target).map(|node| node.depth).max().unwrap_or(0);
        let kind = NodeKind::Call(Call { target: target.map(Box::new), name, name_range, arguments });
        self.node(kind, start..self.end_of_last(), depth)
    }

    /// Expressions with commas between, up to the closing sign; a comma before that sign is fine.
    fn items(&mut self, closing: &str, open: Range<usize>) -> Result<Vec<Node>, Fault> {
        let mut items = Vec::new();
        while !self.is(closing) {
            items.push(self.expression()?);
            if !self.take(",") {
                break;
            }
        }
        self.close(closing, open)?;
        Ok(items)
    }

    fn close(&mut self, closing: &str, open: Range<usize>) -> Result<(), Fault> {
        if self.take(closing) {
            return Ok(());
        }
        let fault = self.unexpected(&format!("`{closing}`"));
        Err(if matches!(self.token().kind, TokenKind::Bad(_)) { fault } else { fault.also(open, "opened here") })
    }

    fn primary(&mut self) -> Result<Node, Fault> {
        let range = self.token().range.clone();
        let kind = match &self.token().kind {
            TokenKind::Int(number) => match i64::try_from(*number) {
                Ok(number) => NodeKind::Literal(Value::Int(number)),
                Err(_) => {
                    let message = "this number does not fit in 64 bits with a sign";
                    return Err(Fault::new(&codes::LITERAL, range, message, "too large"));
                }
            },
            TokenKind::Double(number) => NodeKind::Literal(Value::Float(*number)),
            TokenKind::Text(text) => NodeKind::Literal(Value::Text(text.clone())),
            TokenKind::Name(name) => {
                let name = name.clone();
                return self.name(name, range);
            }
            TokenKind::Sign("(") => {
                let open = self.advance();
                let mut inner = self.expression()?;
                self.close(")", open)?;
                inner.range = range.start..self.end_of_last();
                return Ok(inner);
            }
            TokenKind::Sign("[") => {
                let open = self.advance();
                let items = self.items("]", open)?;
                let depth = items.iter().map(|item| item.depth).max().unwrap_or(0);
                return self.node(NodeKind::List(items), range.start..self.end_of_last(), depth);
            }
            TokenKind::Sign("{") => return self.map(),
            _ => return Err(self.unexpected("a value")),
        };
        self.advance();
        self.node(kind, range, 0)
    }

    fn name(&mut self, name: String, range: Range<usize>) -> Result<Node, Fault> {
        let kind = match name.as_str() {
            "true" => NodeKind::Literal(Value::Bool(true)),
            "false" => NodeKind::Literal(Value::Bool(false)),
            "null" => NodeKind::Literal(Value::Null),
            "in" => return Err(self.unexpected("a value")),
            word if RESERVED.contains(&word) => {
                let message = format!("`{word}` is a reserved word of CEL and names nothing");
                let fault = Fault::new(&codes::SYNTAX, range, message, "reserved word");
                return Err(fault.help_if((word == "if").then(|| "a choice is written `condition ? yes : no`".into())));
            }
            _ => {
                self.advance();
                if let Some(fault) = foreign::word_before(&name, &range, self.token()) {
                    return Err(fault);
                }
                if self.is("(") {
                    return self.call(None, name, range);
                }
                return self.node(NodeKind::Name(name), range, 0);
            }
        };
        self.advance();
        self.node(kind, range, 0)
    }

    fn map(&mut self) -> Result<Node, Fault> {
        let open = self.advance();
        let mut entries = Vec::new();
        while !self.is("}") {
            let key = self.expression()?;
            if !self.take(":") {
                return Err(self.unexpected("`:` and the value of this key"));
            }
            entries.push((key, self.expression()?));
            if !self.take(",") {
                break;
            }
        }
        self.close("}", open.clone())?;
        let depth = entries.iter().map(|(key, value)| key.depth.max(value.depth)).max().unwrap_or(0);
        self.node(NodeKind::Map(entries), open.start..self.end_of_last(), depth)
    }

    /// What is wrong at the next token, when `wanted` should stand there.
    fn unexpected(&mut self, wanted: &str) -> Fault {
        let at = self.at;
        let Token { kind, range } = &mut self.tokens[at];
        let range = range.clone();
        let found = match kind {
            TokenKind::Bad(fault) => {
                // The token is not read again: the caller stops here.
                let code = fault.code;
                return std::mem::replace(fault, Fault::new(code, range, "", ""));
            }
            TokenKind::End => {
                let message = format!("the expression ends where {wanted} should stand");
                return Fault::new(&codes::SYNTAX, range, message, format!("{wanted} is missing"));
            }
            TokenKind::Name(name) => {
                if let Some(fault) = foreign::word_between(name, &range) {
                    return fault;
                }
                format!("`{}`", &self.source[range.clone()])
            }
            _ => format!("`{}`", &self.source[range.clone()]),
        };
        let fault =
            Fault::new(&codes::SYNTAX, range, format!("{found} cannot stand here"), format!("{wanted} is wanted"));
        fault.help_if((found == "`/`").then(|| "an expression has no comments".to_string()))
    }
}
