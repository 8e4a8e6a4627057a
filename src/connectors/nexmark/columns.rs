//! The columns of the three tables, each made alone in a typed loop over event numbers.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};

use super::model::{GOLDEN, mix};
use super::model::{Kind, Model, Salt, auction_id, below, draw, person_id};
use crate::types::PgType;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    BidAuction,
    BidBidder,
    BidPrice,
    BidChannel,
    BidUrl,
    DateTime,
    BidExtra,
    AuctionId,
    AuctionItemName,
    AuctionDescription,
    AuctionInitialBid,
    AuctionReserve,
    AuctionExpires,
    AuctionSeller,
    AuctionCategory,
    AuctionExtra,
    PersonId,
    PersonName,
    PersonEmail,
    PersonCard,
    PersonCity,
    PersonState,
    PersonExtra,
}

impl Column {
    /// A table's columns in RisingWave's order.
    pub fn of(kind: Kind) -> &'static [Column] {
        use Column::*;
        match kind {
            Kind::Person => {
                &[PersonId, PersonName, PersonEmail, PersonCard, PersonCity, PersonState, DateTime, PersonExtra]
            }
            Kind::Auction => &[
                AuctionId,
                AuctionItemName,
                AuctionDescription,
                AuctionInitialBid,
                AuctionReserve,
                DateTime,
                AuctionExpires,
                AuctionSeller,
                AuctionCategory,
                AuctionExtra,
            ],
            Kind::Bid => &[BidAuction, BidBidder, BidPrice, BidChannel, BidUrl, DateTime, BidExtra],
        }
    }

    pub fn name(&self) -> &'static str {
        use Column::*;
        match self {
            BidAuction => "auction",
            BidBidder => "bidder",
            BidPrice => "price",
            BidChannel => "channel",
            BidUrl => "url",
            DateTime => "date_time",
            BidExtra | AuctionExtra | PersonExtra => "extra",
            AuctionId | PersonId => "id",
            AuctionItemName => "item_name",
            AuctionDescription => "description",
            AuctionInitialBid => "initial_bid",
            AuctionReserve => "reserve",
            AuctionExpires => "expires",
            AuctionSeller => "seller",
            AuctionCategory => "category",
            PersonName => "name",
            PersonEmail => "email_address",
            PersonCard => "credit_card",
            PersonCity => "city",
            PersonState => "state",
        }
    }

    pub fn field(&self) -> FieldRef {
        use Column::*;
        let pg_type = match self {
            BidAuction | BidBidder | BidPrice | AuctionId | AuctionInitialBid | AuctionReserve | AuctionSeller
            | AuctionCategory | PersonId => PgType::Int8,
            DateTime | AuctionExpires => PgType::Timestamp,
            _ => PgType::Varchar(None),
        };
        pg_type.field(self.name(), true)
    }

    /// The column's values at `events`, in the declared type of `field`.
    pub fn make(&self, model: &Model, field: &Field, events: &[u64]) -> ArrayRef {
        use Column::*;
        match self {
            AuctionId => longs(events, auction_id),
            PersonId => longs(events, person_id),
            BidAuction => with(model, Salt::BidAuction, |stream| longs(events, |e| model.bid_auction(stream, e))),
            BidBidder => with(model, Salt::BidBidder, |stream| longs(events, |e| model.bid_bidder(stream, e))),
            BidPrice => with(model, Salt::BidPrice, |stream| longs(events, |e| model.price(stream, e))),
            AuctionInitialBid => {
                with(model, Salt::AuctionInitialBid, |stream| longs(events, |e| model.price(stream, e)))
            }
            AuctionReserve => {
                let (initial, more) = (model.stream(Salt::AuctionInitialBid), model.stream(Salt::AuctionReserve));
                longs(events, |e| model.price(initial, e) + model.price(more, e))
            }
            AuctionSeller => {
                with(model, Salt::AuctionSeller, |stream| longs(events, |e| model.auction_seller(stream, e)))
            }
            AuctionCategory => {
                with(model, Salt::AuctionCategory, |stream| longs(events, |e| model.auction_category(stream, e)))
            }
            DateTime => times(field, events, |e| model.time_us(e)),
            AuctionExpires => with(model, Salt::AuctionExpires, |stream| {
                times(field, events, |e| model.auction_expires_us(stream, e))
            }),
            BidChannel => texts(model, Salt::BidChannel, events, 12, channel),
            BidUrl => texts(model, Salt::BidChannel, events, 64, url),
            BidExtra => letters(model, Salt::BidExtra, events, extra_length(100 - 32)),
            AuctionItemName => letters(model, Salt::AuctionName, events, |draw| 3 + below(draw, 17) as usize),
            AuctionDescription => letters(model, Salt::AuctionDescription, events, |draw| 3 + below(draw, 97) as usize),
            // What is left of 500 bytes after the other columns, on the average.
            AuctionExtra => letters(model, Salt::AuctionExtra, events, extra_length(500 - 48 - 11 - 51)),
            PersonName => texts(model, Salt::PersonName, events, 14, |draw, out| {
                out.extend_from_slice(pick(draw, FIRST_NAMES).as_bytes());
                out.push(b' ');
                out.extend_from_slice(pick(mix(draw), LAST_NAMES).as_bytes());
            }),
            PersonEmail => texts(model, Salt::PersonEmail, events, 18, |draw, out| {
                append_letters(out, draw, 3 + below(draw, 5) as usize);
                out.push(b'@');
                append_letters(out, mix(draw), 3 + below(mix(draw), 3) as usize);
                out.extend_from_slice(b".com");
            }),
            PersonCard => texts(model, Salt::PersonCard, events, 19, |draw, out| {
                for group in 0..4 {
                    if group > 0 {
                        out.push(b' ');
                    }
                    let number = below(mix(draw.wrapping_add(group)), 10_000);
                    out.extend([1000, 100, 10, 1].map(|unit| b'0' + (number / unit % 10) as u8));
                }
            }),
            PersonCity => texts(model, Salt::PersonPlace, events, 12, |draw, out| {
                out.extend_from_slice(pick(draw, CITIES).as_bytes());
            }),
            PersonState => texts(model, Salt::PersonPlace, events, 2, |draw, out| {
                out.extend_from_slice(pick(mix(draw), STATES).as_bytes());
            }),
            PersonExtra => letters(model, Salt::PersonExtra, events, extra_length(200 - 8 - 13 - 15 - 19 - 8 - 2)),
        }
    }
}

const FIRST_NAMES: &[&str] =
    &["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: &[&str] = &["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CITIES: &[&str] =
    &["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const STATES: &[&str] = &["AZ", "CA", "ID", "OR", "WA", "WY"];
/// Half of the bids come through one of these.
const HOT_CHANNELS: &[&str] = &["Google", "Facebook", "Baidu", "Apple"];
const CHANNEL_COUNT: u64 = 10_000;

fn pick(draw: u64, list: &'static [&'static str]) -> &'static str {
    list[below(draw, list.len() as u64) as usize]
}

/// `None`: the number of a channel that is not hot.
#[inline(always)]
fn channel_of(draw: u64) -> (Option<&'static str>, u64) {
    match draw % 2 {
        0 => (None, below(draw, CHANNEL_COUNT)),
        _ => (Some(pick(draw, HOT_CHANNELS)), 0),
    }
}

fn channel(draw: u64, out: &mut Vec<u8>) {
    match channel_of(draw) {
        (Some(hot), _) => out.extend_from_slice(hot.as_bytes()),
        (None, number) => {
            out.extend_from_slice(b"channel-");
            append_number(out, number);
        }
    }
}

/// A channel always has the same address; nine in ten of the many carry a channel_id.
fn url(draw: u64, out: &mut Vec<u8>) {
    let (hot, number) = channel_of(draw);
    let key = match hot {
        Some(name) => mix(name.len() as u64 + 1_000_000 + u64::from(name.as_bytes()[0])),
        None => mix(number),
    };
    out.extend_from_slice(b"https://www.nexmark.com/");
    for folder in 0..3u64 {
        let key = mix(key.wrapping_add(folder));
        append_letters(out, key, 3 + below(key, 3) as usize);
        out.push(b'/');
    }
    out.extend_from_slice(b"item.htm?query=1");
    if hot.is_none() && below(key, 10) > 0 {
        out.extend_from_slice(b"&channel_id=");
        append_number(out, u64::from((number as u32).reverse_bits() >> 1));
    }
}

fn append_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let (mut rest, mut at) = (number, digits.len());
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Lengths of an extra column, within a fifth around `mean` bytes.
fn extra_length(mean: u64) -> impl Fn(u64) -> usize {
    let delta = (mean as f64 * 0.2).round() as u64;
    move |draw| (mean - delta + below(draw, 2 * delta)) as usize
}

fn with<T>(model: &Model, salt: Salt, make: impl FnOnce(u64) -> T) -> T {
    make(model.stream(salt))
}

#[inline(always)]
fn longs(events: &[u64], value: impl Fn(u64) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(events.iter().map(|&event| value(event))))
}

/// The declared type may have a time zone.
#[inline(always)]
fn times(field: &Field, events: &[u64], value: impl Fn(u64) -> i64) -> ArrayRef {
    let array = TimestampMicrosecondArray::from_iter_values(events.iter().map(|&event| value(event)));
    match field.data_type() {
        DataType::Timestamp(_, zone) => Arc::new(array.with_timezone_opt(zone.clone())),
        _ => Arc::new(array),
    }
}

/// `append` writes the text of one draw.
#[inline(always)]
fn texts(
    model: &Model,
    salt: Salt,
    events: &[u64],
    bytes_per_row: usize,
    append: impl Fn(u64, &mut Vec<u8>),
) -> ArrayRef {
    let stream = model.stream(salt);
    let mut bytes = Vec::with_capacity(events.len() * bytes_per_row);
    let mut offsets = Vec::with_capacity(events.len() + 1);
    offsets.push(0i32);
    for &event in events {
        append(draw(stream, event), &mut bytes);
        offsets.push(bytes.len() as i32);
    }
    strings(bytes, offsets)
}

/// Rows of lower-case letters, `length` of their draw long.
#[inline(always)]
fn letters(model: &Model, salt: Salt, events: &[u64], length: impl Fn(u64) -> usize) -> ArrayRef {
    let stream = model.stream(salt);
    let mut offsets = Vec::with_capacity(events.len() + 1);
    offsets.push(0i32);
    let mut total = 0;
    for &event in events {
        total += length(draw(stream, event));
        offsets.push(total as i32);
    }
    // Words are written whole: the last one may run eight bytes over, into what the next row writes again.
    let mut bytes = vec![0u8; total + 8];
    for (&event, ends) in events.iter().zip(offsets.windows(2)) {
        let (start, end) = (ends[0] as usize, ends[1] as usize);
        let mut state = draw(stream, event);
        let mut at = start;
        while at < end {
            state = state.wrapping_add(GOLDEN);
            bytes[at..at + 8].copy_from_slice(&eight_letters(mix(state)).to_le_bytes());
            at += 8;
        }
    }
    bytes.truncate(total);
    strings(bytes, offsets)
}

fn append_letters(out: &mut Vec<u8>, mut state: u64, count: usize) {
    let end = out.len() + count;
    while out.len() < end {
        state = state.wrapping_add(GOLDEN);
        let eight = eight_letters(mix(state)).to_le_bytes();
        out.extend_from_slice(&eight[..(end - out.len()).min(8)]);
    }
}

/// Each byte x becomes a letter, the 26 x / 256-th: four bytes at a time in 16-bit lanes.
#[inline(always)]
fn eight_letters(bits: u64) -> u64 {
    const EVEN: u64 = 0x00FF_00FF_00FF_00FF;
    let even = (((bits & EVEN) * 26) >> 8) & EVEN;
    let odd = (((bits >> 8) & EVEN) * 26) & !EVEN;
    (even | odd) + 0x6161_6161_6161_6161
}

fn strings(bytes: Vec<u8>, offsets: Vec<i32>) -> ArrayRef {
    let offsets = OffsetBuffer::new(offsets.into());
    // SAFETY: every writer above writes ASCII, and offsets only grow, up to the number of bytes.
    Arc::new(unsafe { StringArray::new_unchecked(offsets, Buffer::from_vec(bytes), None) })
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn letters_are_letters_of_the_right_length() {
        let model = Model { seed: 3, base_time_us: 0, event_gap_ns: 1 };
        let events: Vec<u64> = (0..5000).collect();
        let array = Column::BidExtra.make(&model, &Column::BidExtra.field(), &events);
        let mut seen = [false; 26];
        for text in array.as_string::<i32>().iter().flatten() {
            assert!((54..=82).contains(&text.len()));
            text.bytes().for_each(|b| seen[usize::from(b - b'a')] = true);
        }
        assert!(seen.iter().all(|&letter| letter));
    }

    #[test]
    fn every_column_is_text_that_arrow_accepts() {
        let model = Model { seed: 3, base_time_us: 0, event_gap_ns: 1 };
        let events: Vec<u64> = (0..1000).collect();
        for kind in [Kind::Person, Kind::Auction, Kind::Bid] {
            for column in Column::of(kind) {
                let array = column.make(&model, &column.field(), &events);
                assert_eq!((array.len(), array.data_type()), (1000, column.field().data_type()));
                array.to_data().validate_full().expect("valid");
            }
        }
    }

    #[test]
    fn a_channel_keeps_its_address() {
        let model = Model { seed: 3, base_time_us: 0, event_gap_ns: 1 };
        let events: Vec<u64> = (0..20_000).collect();
        let channels = Column::BidChannel.make(&model, &Column::BidChannel.field(), &events);
        let urls = Column::BidUrl.make(&model, &Column::BidUrl.field(), &events);
        let mut address = std::collections::HashMap::new();
        for (channel, url) in channels.as_string::<i32>().iter().zip(urls.as_string::<i32>().iter()) {
            assert_eq!(*address.entry(channel).or_insert(url), url);
            assert!(url.is_some_and(|url| url.starts_with("https://www.nexmark.com/") && url.split('/').count() == 7));
        }
        assert!(address.len() > 5000);
    }
}
