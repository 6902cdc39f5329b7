//! Decimal numbers, as .NET programs send them for prices. They are compared exactly.

use std::cmp::Ordering;

/// `±coefficient × 10^exponent`, without zeros at the end of the coefficient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    is_negative: bool,
    /// At most 34 digits from the wire, 39 from an integer.
    coefficient: u128,
    exponent: i32,
}

/// How the bits of a width are used: IEEE 754 in its binary integer form, which §1.6.13 asks for.
struct Form {
    width: u32,
    exponent_bits: u32,
    bias: i32,
    coefficient_max: u128,
}

const DECIMAL32: Form =
    Form { width: 32, exponent_bits: 8, bias: 101, coefficient_max: 10_u128.pow(7) - 1 };
const DECIMAL64: Form =
    Form { width: 64, exponent_bits: 10, bias: 398, coefficient_max: 10_u128.pow(16) - 1 };
const DECIMAL128: Form =
    Form { width: 128, exponent_bits: 14, bias: 6_176, coefficient_max: 10_u128.pow(34) - 1 };

impl Decimal {
    /// Of the octets of a decimal32. Infinities and what is no number, which .NET cannot send
    /// either, are nothing.
    pub(crate) fn from_decimal32(octets: [u8; 4]) -> Option<Self> {
        Self::read(u32::from_be_bytes(octets).into(), &DECIMAL32)
    }

    /// Of the octets of a decimal64.
    pub(crate) fn from_decimal64(octets: [u8; 8]) -> Option<Self> {
        Self::read(u64::from_be_bytes(octets).into(), &DECIMAL64)
    }

    /// Of the octets of a decimal128.
    pub(crate) fn from_decimal128(octets: [u8; 16]) -> Option<Self> {
        Self::read(u128::from_be_bytes(octets), &DECIMAL128)
    }

    fn read(bits: u128, form: &Form) -> Option<Self> {
        let field = |low: u32, len: u32| (bits >> low) & ((1 << len) - 1);
        let coefficient_bits = form.width - 1 - form.exponent_bits;
        if field(form.width - 5, 4) == 0b1111 {
            return None;
        }
        // Two set bits move the exponent down by two, over three bits of the coefficient that are 100.
        let (exponent, coefficient) = if field(form.width - 3, 2) == 0b11 {
            let low = coefficient_bits - 2;
            (field(low, form.exponent_bits), (0b100 << low) | field(0, low))
        } else {
            (field(coefficient_bits, form.exponent_bits), field(0, coefficient_bits))
        };
        // Coefficients out of range are zeros in disguise.
        let coefficient = if form.coefficient_max < coefficient { 0 } else { coefficient };
        let exponent = i32::try_from(exponent).expect("14 bits at most") - form.bias;
        Some(Self::new(field(form.width - 1, 1) == 1, coefficient, exponent))
    }

    fn new(is_negative: bool, mut coefficient: u128, mut exponent: i32) -> Self {
        if coefficient == 0 {
            return Decimal { is_negative: false, coefficient: 0, exponent: 0 };
        }
        while coefficient.is_multiple_of(10) {
            coefficient /= 10;
            exponent += 1;
        }
        Decimal { is_negative, coefficient, exponent }
    }

    /// The octets of a whole number as a decimal128.
    pub(crate) fn whole_as_decimal128(number: i64) -> [u8; 16] {
        let sign = u128::from(number < 0) << 127;
        let exponent = u128::from(DECIMAL128.bias.unsigned_abs()) << 113;
        (sign | exponent | u128::from(number.unsigned_abs())).to_be_bytes()
    }

    /// The integer that it is, if it is one of at most 64 bits.
    pub(crate) fn as_integer(self) -> Option<i128> {
        let scale = 10_u128.checked_pow(u32::try_from(self.exponent).ok()?)?;
        let magnitude = i128::try_from(self.coefficient.checked_mul(scale)?).ok()?;
        let integer = if self.is_negative { -magnitude } else { magnitude };
        (i64::MIN.into()..=u64::MAX.into()).contains(&integer).then_some(integer)
    }

    /// The nearest double.
    pub(crate) fn as_double(self) -> f64 {
        let sign = if self.is_negative { "-" } else { "" };
        let text = format!("{sign}{}e{}", self.coefficient, self.exponent);
        text.parse().expect("this is how a double is written")
    }

    fn cmp_magnitude(self, other: Decimal) -> Ordering {
        // What has more digits before the point is greater. Else both can have the same exponent
        // and will still have the same count of digits: no more than either had before.
        let digits =
            |d: Decimal| d.coefficient.checked_ilog10().map_or(0, |log| i64::from(log) + 1);
        let whole = |d: Decimal| digits(d) + i64::from(d.exponent);
        let aligned = |d: Decimal, to: i32| {
            let places = u32::try_from(d.exponent - to).expect("the lower exponent");
            d.coefficient * 10_u128.pow(places)
        };
        match (self.coefficient, other.coefficient) {
            (0, 0) => Ordering::Equal,
            (0, _) => Ordering::Less,
            (_, 0) => Ordering::Greater,
            _ => whole(self).cmp(&whole(other)).then_with(|| {
                let exponent = self.exponent.min(other.exponent);
                aligned(self, exponent).cmp(&aligned(other, exponent))
            }),
        }
    }
}

impl From<i128> for Decimal {
    fn from(integer: i128) -> Self {
        Decimal::new(integer < 0, integer.unsigned_abs(), 0)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (false, false) => self.cmp_magnitude(*other),
            (true, true) => other.cmp_magnitude(*self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn the_three_widths_read_alike() {
        // 7.50: coefficient 750, exponent -2.
        let d32 = Decimal::from_decimal32(hex!("31 80 02 ee")).unwrap();
        let d64 = Decimal::from_decimal64(hex!("31 80 00 00 00 00 02 ee")).unwrap();
        let d128 = hex!("30 3c 00 00 00 00 00 00 00 00 00 00 00 00 02 ee");
        let d128 = Decimal::from_decimal128(d128).unwrap();
        assert_eq!(d32, Decimal { is_negative: false, coefficient: 75, exponent: -1 });
        assert_eq!((d32, d32), (d64, d128));
        assert!((d32.as_double() - 7.5).abs() < f64::EPSILON);
    }

    #[test]
    fn large_coefficients_have_another_form() {
        // 9,999,999: needs 24 bits, of which 23 fit the usual form.
        let largest = Decimal::from_decimal32(hex!("6c b8 96 7f")).unwrap();
        assert_eq!(largest.as_integer(), Some(9_999_999));
        let beyond = Decimal::from_decimal32(hex!("6c b8 96 80")).unwrap();
        assert_eq!(beyond.as_integer(), Some(0), "out of range is zero");
        assert_eq!(Decimal::from_decimal32(hex!("78 00 00 00")), None, "infinity");
        assert_eq!(Decimal::from_decimal32(hex!("7c 00 00 00")), None, "no number");
    }

    #[test]
    fn whole_numbers_survive() {
        for number in [0, 1, -1, 10, 1_000_000, i64::MAX, i64::MIN] {
            let decimal = Decimal::from_decimal128(Decimal::whole_as_decimal128(number)).unwrap();
            assert_eq!(decimal.as_integer(), Some(number.into()));
            assert_eq!(decimal, Decimal::from(i128::from(number)));
        }
        let fraction = Decimal { is_negative: false, coefficient: 5, exponent: -1 };
        assert_eq!(fraction.as_integer(), None);
        let huge = Decimal { is_negative: false, coefficient: 1, exponent: 6_000 };
        assert_eq!(huge.as_integer(), None);
    }

    #[test]
    fn order_is_exact_however_far_apart() {
        let decimal =
            |is_negative, coefficient, exponent| Decimal::new(is_negative, coefficient, exponent);
        let rising = [
            decimal(true, 1, 6_000),
            decimal(true, 10_u128.pow(34) - 1, 0),
            decimal(true, 2, 0),
            decimal(true, 15, -1),
            decimal(true, 1, -6_000),
            decimal(false, 0, 17),
            decimal(false, 1, -6_000),
            decimal(false, 1, -1),
            decimal(false, 11, -2),
            decimal(false, 2, 0),
            decimal(false, 10_u128.pow(34) - 2, 0),
            decimal(false, 10_u128.pow(34) - 1, 0),
            decimal(false, 1, 34),
            decimal(false, u128::MAX, 0),
            decimal(false, 1, 6_000),
        ];
        for (i, a) in rising.iter().enumerate() {
            for (j, b) in rising.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a:?} and {b:?}");
            }
        }
        assert_eq!(decimal(false, 100, -2), Decimal::from(1));
    }
}
