//! `to_char` of numbers and `to_number`, by Postgres' templates (`FM9,999.00`, `S999`, `99V9`, `9.99EEEE`, `RN`).

use super::format_datetime::ordinal_suffix;
use super::scalar::{Decimal, Function, Kernel, Row, Type, function, overload};
use crate::error::{Error, Result, SqlState};

use Type::Text;

pub(super) const FUNCTIONS: &[Function] =
    &[function("to_number", &[overload(&[Text, Text], Kernel::Numeric(to_number))])];

#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// `9`, and `0` that shows zeros from there on.
    Digit {
        zero: bool,
    },
    Point,
    Group,
    /// `S`: the sign beside the number.
    Sign,
    Minus,
    Plus,
    EitherSign,
    Brackets,
    Ordinal {
        upper: bool,
    },
    /// What follows it multiplies by ten.
    Shift,
    Currency,
    Exponent,
    Roman {
        upper: bool,
    },
    Literal(String),
}

struct Template {
    nodes: Vec<Node>,
    /// `FM`: no padding.
    fill: bool,
}

impl Template {
    fn of(text: &str) -> Result<Template> {
        let (mut nodes, mut fill, mut rest) = (vec![], true, text);
        while let Some(first) = rest.chars().next() {
            if first == '"' {
                let inner = rest[1..].split('"').next().unwrap_or("");
                nodes.push(Node::Literal(inner.to_string()));
                rest = rest[1 + inner.len()..].strip_prefix('"').unwrap_or("");
                continue;
            }
            const WORDS: &[(&str, Node)] = &[
                ("EEEE", Node::Exponent),
                ("MI", Node::Minus),
                ("PL", Node::Plus),
                ("SG", Node::EitherSign),
                ("PR", Node::Brackets),
                ("S", Node::Sign),
                ("V", Node::Shift),
                ("L", Node::Currency),
                ("D", Node::Point),
                ("G", Node::Group),
                ("9", Node::Digit { zero: false }),
                ("0", Node::Digit { zero: true }),
                (".", Node::Point),
                (",", Node::Group),
            ];
            let starts = |word: &str| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
            if starts("FM") {
                fill = false;
                rest = &rest[2..];
            } else if starts("TH") {
                nodes.push(Node::Ordinal { upper: rest.starts_with('T') });
                rest = &rest[2..];
            } else if starts("RN") {
                nodes.push(Node::Roman { upper: rest.starts_with('R') });
                rest = &rest[2..];
            } else if let Some((word, node)) = WORDS.iter().find(|(word, _)| starts(word)) {
                if *node == Node::Point && nodes.contains(&Node::Point) {
                    return Err(Error::new(SqlState::SYNTAX_ERROR, "multiple decimal points"));
                }
                nodes.push(node.clone());
                rest = &rest[word.len()..];
            } else {
                nodes.push(Node::Literal(first.to_string()));
                rest = &rest[first.len_utf8()..];
            }
        }
        Ok(Template { nodes, fill })
    }

    fn has(&self, node: &Node) -> bool {
        self.nodes.contains(node)
    }

    /// Digits before and behind the point; those behind `V` count as before it.
    fn widths(&self) -> (usize, usize) {
        let point = self.nodes.iter().position(|node| *node == Node::Point).unwrap_or(self.nodes.len());
        let digits = |nodes: &[Node]| nodes.iter().filter(|node| matches!(node, Node::Digit { .. })).count();
        (digits(&self.nodes[..point]), digits(&self.nodes[point..]))
    }

    fn shift(&self) -> usize {
        let Some(at) = self.nodes.iter().position(|node| *node == Node::Shift) else { return 0 };
        self.nodes[at..].iter().filter(|node| matches!(node, Node::Digit { .. })).count()
    }
}

/// A float is printed with the digits that it has.
pub(super) fn of_float(value: f64, template: &str) -> Result<String> {
    let template = Template::of(template)?;
    if template.has(&Node::Exponent) {
        return Ok(scientific(value, &template));
    }
    if !value.is_finite() {
        let (before, _) = template.widths();
        return Ok(if value.is_nan() { "NaN".to_string() } else { "#".repeat(before) });
    }
    let (_, behind) = template.widths();
    let shifted = value * 10f64.powi(template.shift() as i32);
    let text = format!("{:.*}", behind, shifted.abs());
    put(&text, value < 0.0, &template)
}

pub(super) fn of_decimal(value: Decimal, template: &str) -> Result<String> {
    let template = Template::of(template)?;
    if template.has(&Node::Exponent) {
        return Ok(scientific(value.to_f64(), &template));
    }
    let (_, behind) = template.widths();
    let overflow = || Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format");
    let shift = 10i128.checked_pow(template.shift() as u32).ok_or_else(overflow)?;
    let shifted = Decimal::new(value.digits.checked_mul(shift).ok_or_else(overflow)?, value.scale);
    let places = i8::try_from(behind).map_err(|_| overflow())?;
    let rounded = shifted.rescale(places).ok_or_else(overflow)?;
    put(&Decimal::new(rounded.digits.abs(), places).to_string(), value.digits < 0, &template)
}

fn scientific(value: f64, template: &Template) -> String {
    let (_, behind) = template.widths();
    let text = format!("{:.*e}", behind, value);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let blank = if value < 0.0 || !template.fill { "" } else { " " };
    format!("{blank}{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn roman(text: &str, upper: bool, fill: bool) -> String {
    const PARTS: &[(u32, &str)] = &[
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    const WIDTH: usize = 15;
    let number: Option<u32> = text.split('.').next().and_then(|whole| whole.parse().ok());
    let Some(mut number) = number.filter(|number| (1..4000).contains(number)) else { return "#".repeat(WIDTH) };
    let mut out = String::new();
    for (size, letters) in PARTS {
        while number >= *size {
            out.push_str(letters);
            number -= size;
        }
    }
    let out = if upper { out } else { out.to_lowercase() };
    if fill { format!("{out:>WIDTH$}") } else { out }
}

/// `text` is the number without its sign, with as many digits behind the point as the template has.
fn put(text: &str, negative: bool, template: &Template) -> Result<String> {
    if let Some(Node::Roman { upper }) = template.nodes.iter().find(|node| matches!(node, Node::Roman { .. })) {
        return Ok(roman(text, *upper, template.fill));
    }
    let (before, behind) = template.widths();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    // Nothing stands for a zero before the point, unless there is nothing else.
    let whole = if whole == "0" && behind > 0 { "" } else { whole };
    let fits = whole.len() <= before;
    // What is rounded to zero has no sign.
    let negative = negative && text.bytes().any(|byte| byte.is_ascii_digit() && byte != b'0');
    let sign_at = template.nodes.iter().position(|node| *node == Node::Sign);
    let first_digit = template.nodes.iter().position(|node| matches!(node, Node::Digit { .. } | Node::Point));
    let sign_in_front = sign_at.is_some_and(|at| first_digit.is_none_or(|first| at < first));
    let special =
        template.nodes.iter().any(|node| matches!(node, Node::Minus | Node::Plus | Node::EitherSign | Node::Brackets));
    let lead = match (negative, template.has(&Node::Brackets)) {
        (true, true) => "<",
        (false, true) if template.fill => " ",
        (false, true) => "",
        (true, false) if sign_in_front || (sign_at.is_none() && !special) => "-",
        (false, false) if sign_in_front => "+",
        (false, false) if sign_at.is_none() && !special && template.fill => " ",
        _ => "",
    };
    let blank = if template.fill { " " } else { "" };
    let first_zero = zero_position(&template.nodes);
    // Under FM, zeros at the end go as far as the template does not ask for them.
    let kept = if template.fill { behind } else { kept_places(&template.nodes, fraction) };
    let (mut out, mut started, mut place, mut behind_place, mut is_behind) = (String::new(), false, 0, 0, false);
    let start = |out: &mut String, started: &mut bool| {
        if !*started {
            out.push_str(lead);
            *started = true;
        }
    };
    let last_digit = template.nodes.iter().rposition(|node| matches!(node, Node::Digit { .. } | Node::Point));
    for (index, node) in template.nodes.iter().enumerate() {
        match node {
            Node::Digit { .. } if is_behind => {
                if behind_place < kept {
                    match fraction.as_bytes().get(behind_place) {
                        Some(digit) if fits => out.push(char::from(*digit)),
                        _ => out.push('#'),
                    }
                }
                behind_place += 1;
            }
            Node::Digit { .. } => {
                let offset = before as i64 - whole.len() as i64;
                if !fits {
                    start(&mut out, &mut started);
                    out.push('#');
                } else if place as i64 >= offset {
                    start(&mut out, &mut started);
                    out.push(char::from(whole.as_bytes()[(place as i64 - offset) as usize]));
                } else if first_zero.is_some_and(|zero| place >= zero) {
                    start(&mut out, &mut started);
                    out.push('0');
                } else {
                    out.push_str(blank);
                }
                place += 1;
            }
            Node::Point => {
                start(&mut out, &mut started);
                is_behind = true;
                if kept > 0 || template.fill || behind == 0 {
                    out.push('.');
                }
            }
            Node::Group => out.push_str(if started { "," } else { blank }),
            Node::Sign if sign_in_front => {}
            Node::Sign => out.push(if negative { '-' } else { '+' }),
            Node::Minus => out.push_str(if negative { "-" } else { blank }),
            Node::Plus => out.push_str(if negative { blank } else { "+" }),
            Node::EitherSign => out.push(if negative { '-' } else { '+' }),
            Node::Ordinal { upper } if !negative && behind == 0 => {
                let suffix = ordinal_suffix(whole);
                out.push_str(&if *upper { suffix.to_uppercase() } else { suffix.to_string() });
            }
            Node::Currency => out.push_str(blank),
            Node::Literal(text) => out.push_str(text),
            _ => {}
        }
        if Some(index) == last_digit {
            start(&mut out, &mut started);
            if template.has(&Node::Brackets) {
                out.push_str(if negative { ">" } else { blank });
            }
        }
    }
    Ok(out)
}

/// The first place before the point from which zeros are shown.
fn zero_position(nodes: &[Node]) -> Option<usize> {
    let digits =
        nodes.iter().take_while(|node| **node != Node::Point).filter(|node| matches!(node, Node::Digit { .. }));
    digits.into_iter().position(|node| *node == Node::Digit { zero: true })
}

fn kept_places(nodes: &[Node], fraction: &str) -> usize {
    let behind =
        nodes.iter().skip_while(|node| **node != Node::Point).filter(|node| matches!(node, Node::Digit { .. }));
    let asked =
        behind.collect::<Vec<_>>().iter().rposition(|node| **node == Node::Digit { zero: true }).map_or(0, |at| at + 1);
    asked.max(fraction.trim_end_matches('0').len())
}

/// Digits, point and sign are looked for; what else the template has is skipped.
fn to_number(row: &Row<'_>) -> Result<Option<Decimal>> {
    let (text, template) = (row.text(0), Template::of(row.text(1))?);
    let negative = text.contains('-') || text.trim().starts_with('<');
    let (mut digits, mut scale, mut is_behind) = (0i128, 0i8, false);
    let (before, behind) = template.widths();
    let (mut seen_before, mut seen_behind) = (0, 0);
    for c in text.chars() {
        match c {
            '.' if !is_behind && template.has(&Node::Point) => is_behind = true,
            '.' => break,
            digit if digit.is_ascii_digit() => {
                let (seen, most) = if is_behind { (&mut seen_behind, behind) } else { (&mut seen_before, before) };
                if *seen == most {
                    break;
                }
                *seen += 1;
                scale += i8::from(is_behind);
                let next = digits.checked_mul(10).and_then(|digits| digits.checked_add(i128::from(digit as u8 - b'0')));
                digits = next.ok_or_else(|| {
                    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
                })?;
            }
            _ => {}
        }
    }
    if seen_before + seen_behind == 0 {
        let message = format!("invalid input syntax for type numeric: \"{text}\"");
        return Err(Error::new(SqlState::INVALID_TEXT_REPRESENTATION, message));
    }
    Ok(Some(Decimal::new(if negative { -digits } else { digits }, scale)))
}
