//! The numbers of Nexmark: which event is what, and what its keys, prices and times are.
//!
//! Randomness is counter-based: `draw(salt, event)` mixes seed, salt and event number (Steele et al., *Fast Splittable
//! Pseudorandom Number Generators*, OOPSLA 2014), so that a column can be made alone, from anywhere.

/// The three tables, told apart by the event number modulo fifty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Person,
    Auction,
    Bid,
}

/// Events in a round: 1 person, 3 auctions, 46 bids.
pub const ROUND: u64 = 50;
const PERSONS: u64 = 1;
const AUCTIONS: u64 = 3;

impl Kind {
    /// Where in a round the events of this kind stand.
    pub fn places(self) -> std::ops::Range<u64> {
        match self {
            Kind::Person => 0..PERSONS,
            Kind::Auction => PERSONS..PERSONS + AUCTIONS,
            Kind::Bid => PERSONS + AUCTIONS..ROUND,
        }
    }
}

const FIRST_PERSON_ID: u64 = 1000;
const FIRST_AUCTION_ID: u64 = 1000;
const FIRST_CATEGORY_ID: u64 = 10;
const CATEGORY_COUNT: u64 = 5;
/// One in so many is not hot.
const HOT_AUCTION_RATIO: u64 = 2;
const HOT_SELLER_RATIO: u64 = 4;
const HOT_BIDDER_RATIO: u64 = 4;
/// A hot key changes after so many keys.
const HOT_SPAN: u64 = 100;
const AUCTIONS_IN_FLIGHT: u64 = 100;
const ACTIVE_PERSONS: u64 = 1000;
/// How far keys may run ahead of what exists.
const ID_LEAD: u64 = 10;

/// One for each random choice of a row.
#[derive(Clone, Copy)]
pub enum Salt {
    BidAuction = 1,
    BidBidder,
    BidPrice,
    BidChannel,
    BidExtra,
    AuctionName,
    AuctionDescription,
    AuctionInitialBid,
    AuctionReserve,
    AuctionExpires,
    AuctionSeller,
    AuctionCategory,
    AuctionExtra,
    PersonName,
    PersonEmail,
    PersonCard,
    PersonPlace,
    PersonExtra,
}

#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub seed: u64,
    pub base_time_us: i64,
    pub event_gap_ns: u64,
}

pub const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finaliser.
#[inline(always)]
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number below `limit` from the top bits of `draw` (Lemire, *Fast Random Integer Generation in an Interval*, 2019,
/// without the rejection: the bias is below 2⁻⁴⁰ for our limits).
#[inline(always)]
pub fn below(draw: u64, limit: u64) -> u64 {
    ((u128::from(draw) * u128::from(limit)) >> 64) as u64
}

impl Model {
    /// The stream of draws for one choice.
    #[inline(always)]
    pub fn stream(&self, salt: Salt) -> u64 {
        mix(self.seed.wrapping_add(GOLDEN.wrapping_mul(salt as u64)))
    }

    /// Wraps after 2^64 ns / gap events, some 58 thousand years of the default gap's events.
    #[inline(always)]
    pub fn time_us(&self, event: u64) -> i64 {
        self.base_time_us.wrapping_add((u128::from(event) * u128::from(self.event_gap_ns) / 1000) as i64)
    }

    #[inline(always)]
    pub fn bid_auction(&self, stream: u64, event: u64) -> i64 {
        let draw = draw(stream, event);
        let last = last_auction(event);
        // The low bits choose, the high bits pick.
        let id = match draw % HOT_AUCTION_RATIO {
            0 => {
                let first = last.saturating_sub(AUCTIONS_IN_FLIGHT);
                first + below(draw, last - first + 1 + ID_LEAD)
            }
            _ => last / HOT_SPAN * HOT_SPAN,
        };
        (id + FIRST_AUCTION_ID) as i64
    }

    #[inline(always)]
    pub fn bid_bidder(&self, stream: u64, event: u64) -> i64 {
        let draw = draw(stream, event);
        let id = match draw % HOT_BIDDER_RATIO {
            0 => some_person(draw, event),
            _ => last_person(event) / HOT_SPAN * HOT_SPAN + 1,
        };
        (id + FIRST_PERSON_ID) as i64
    }

    #[inline(always)]
    pub fn auction_seller(&self, stream: u64, event: u64) -> i64 {
        let draw = draw(stream, event);
        let id = match draw % HOT_SELLER_RATIO {
            0 => some_person(draw, event),
            _ => last_person(event) / HOT_SPAN * HOT_SPAN,
        };
        (id + FIRST_PERSON_ID) as i64
    }

    /// Cents, log-uniform from 1 to a million dollars.
    #[inline(always)]
    pub fn price(&self, stream: u64, event: u64) -> i64 {
        let unit = (draw(stream, event) >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
        ((unit * 6.0 * std::f64::consts::LN_10).exp() * 100.0).round() as i64
    }

    /// At least a millisecond after the auction, twice the time that the auctions in flight take at most.
    #[inline(always)]
    pub fn auction_expires_us(&self, stream: u64, event: u64) -> i64 {
        let events_ahead = AUCTIONS_IN_FLIGHT * ROUND / AUCTIONS;
        let now_us = self.time_us(event);
        let horizon_ms = (self.time_us(event + events_ahead) - now_us).max(0) as u64 / 1000;
        now_us + (1 + below(draw(stream, event), (horizon_ms * 2).max(1))) as i64 * 1000
    }

    #[inline(always)]
    pub fn auction_category(&self, stream: u64, event: u64) -> i64 {
        (FIRST_CATEGORY_ID + below(draw(stream, event), CATEGORY_COUNT)) as i64
    }
}

#[inline(always)]
pub fn draw(stream: u64, event: u64) -> u64 {
    mix(stream.wrapping_add(event.wrapping_mul(GOLDEN)))
}

#[inline(always)]
pub fn auction_id(event: u64) -> i64 {
    (last_auction(event) + FIRST_AUCTION_ID) as i64
}

#[inline(always)]
pub fn person_id(event: u64) -> i64 {
    (last_person(event) + FIRST_PERSON_ID) as i64
}

/// The youngest auction when `event` happens, counted from 0. The first person comes before any auction; it sees 0.
#[inline(always)]
fn last_auction(event: u64) -> u64 {
    let (round, place) = (event / ROUND, event % ROUND);
    // Auctions of this round so far; after its last auction all of them.
    let so_far = place.min(AUCTIONS);
    (round * AUCTIONS + so_far).saturating_sub(1)
}

/// The youngest person when `event` happens, counted from 0.
#[inline(always)]
fn last_person(event: u64) -> u64 {
    event / ROUND * PERSONS
}

/// One of the active persons, or of those to come.
#[inline(always)]
fn some_person(draw: u64, event: u64) -> u64 {
    let count = last_person(event) + 1;
    let active = count.min(ACTIVE_PERSONS);
    count - active + below(draw, active + ID_LEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_up_without_gaps() {
        let rounds = 0..100;
        let of =
            |kind: Kind| rounds.clone().flat_map(move |round| kind.places().map(move |place| round * ROUND + place));
        let auctions: Vec<i64> = of(Kind::Auction).map(auction_id).collect();
        assert_eq!(auctions, (1000..1300).collect::<Vec<_>>());
        let persons: Vec<i64> = of(Kind::Person).map(person_id).collect();
        assert_eq!(persons, (1000..1100).collect::<Vec<_>>());
        assert_eq!(of(Kind::Bid).count(), 4600);
    }

    #[test]
    fn bids_are_hot_and_near() {
        let model = Model { seed: 7, base_time_us: 0, event_gap_ns: 100_000 };
        let (auctions, bidders) = (model.stream(Salt::BidAuction), model.stream(Salt::BidBidder));
        let (mut hot_auctions, mut hot_bidders, mut count) = (0, 0, 0);
        for event in 100_000..200_000 {
            let last = last_auction(event) as i64 + 1000;
            let auction = model.bid_auction(auctions, event);
            assert!((last - 100..=last + 10).contains(&auction));
            let person = last_person(event) as i64 + 1000;
            let bidder = model.bid_bidder(bidders, event);
            assert!((person - 1000..=person + 10).contains(&bidder));
            hot_auctions += i64::from(auction == last_auction(event) as i64 / 100 * 100 + 1000);
            hot_bidders += i64::from(bidder == last_person(event) as i64 / 100 * 100 + 1001);
            count += 1;
        }
        assert!((count * 49 / 100..count * 52 / 100).contains(&hot_auctions), "{hot_auctions} of {count}");
        assert!((count * 74 / 100..count * 76 / 100).contains(&hot_bidders), "{hot_bidders} of {count}");
    }

    #[test]
    fn prices_and_expiry_stay_in_their_bounds() {
        let model = Model { seed: 1, base_time_us: 1_000_000, event_gap_ns: 100_000 };
        let (prices, expiries) = (model.stream(Salt::BidPrice), model.stream(Salt::AuctionExpires));
        for event in 0..10_000 {
            assert!((100..=100_000_000).contains(&model.price(prices, event)));
            let length_us = model.auction_expires_us(expiries, event) - model.time_us(event);
            assert!((1000..=400_000).contains(&length_us));
        }
    }
}
