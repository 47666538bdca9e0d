//! Others' normalisers as the ranges that ours is made of: each maps a number by a factor and an offset.

use crate::Normalizer;

/// Whether a feature is normalised before the network sees it, or comes out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// diffusion_policy's `LinearNormalizer`: `normalised = value * scale + offset`, repeated over the `dim` numbers.
///
/// # Errors
/// The number whose factors are no use, or beyond what our ranges can say.
pub(crate) fn from_scale_and_offset(
    what: &str,
    dim: usize,
    scale: &[f32],
    offset: &[f32],
) -> Result<Normalizer, String> {
    if scale.is_empty() || scale.len() != offset.len() || !dim.is_multiple_of(scale.len()) {
        return Err(format!(
            "the normaliser of `{what}` has {} factors and {} offsets, and there are {dim} numbers",
            scale.len(),
            offset.len()
        ));
    }
    let factors = |number: usize| {
        let (scale, offset) = (scale[number % scale.len()], offset[number % scale.len()]);
        (f64::from(scale), f64::from(offset))
    };
    if let Some(number) = (0..dim).find(|number| factors(*number).0 <= 0.0) {
        let scale = factors(number).0;
        return Err(format!("the normaliser of `{what}` scales number {number} by {scale}, not above 0"));
    }
    let bound = |normalised: f64| move |number| (normalised - factors(number).1) / factors(number).0;
    let normalizer =
        Normalizer { low: (0..dim).map(bound(-1.0)).collect(), high: (0..dim).map(bound(1.0)).collect() };
    represented(what, normalizer, factors)
}

/// A range that goes to -1..=1, as LeRobot's `MIN_MAX` and quantiles do: `2 (value - low) / (high - low) - 1`. Where nothing
/// varies, a LeRobot policy has learned with -1.
///
/// # Errors
/// The number whose range is none, or too narrow for ours.
pub(crate) fn from_range(what: &str, low: &[f32], high: &[f32], way: Way) -> Result<Normalizer, String> {
    let pairs = || low.iter().zip(high).map(|(low, high)| (f64::from(*low), f64::from(*high)));
    if let Some(number) = pairs().position(|(low, high)| low > high) {
        return Err(format!(
            "the normaliser of `{what}` has a range of number {number} that ends before it begins"
        ));
    }
    let high = pairs().map(|(low, high)| if low == high { low + constant_range(low, way) } else { high });
    let normalizer = Normalizer { low: pairs().map(|(low, _)| low).collect(), high: high.collect() };
    let factors = |number: usize| {
        let (low, high) = (normalizer.low[number], normalizer.high[number]);
        (2.0 / (high - low), -1.0 - 2.0 * low / (high - low))
    };
    represented(what, normalizer.clone(), factors)
}

/// LeRobot's `MEAN_STD`: `(value - mean) / (std + epsilon)` in, `value * std + mean` out.
///
/// # Errors
/// The number whose deviation is none, or too small for our ranges.
pub(crate) fn from_mean_and_std(
    what: &str,
    mean: &[f32],
    std: &[f32],
    epsilon: f64,
    way: Way,
) -> Result<Normalizer, String> {
    if let Some(number) = std.iter().position(|std| *std < 0.0) {
        return Err(format!("the normaliser of `{what}` has a negative deviation of number {number}"));
    }
    let pairs = || {
        mean.iter().zip(std).map(|(mean, std)| {
            let (mean, std) = (f64::from(*mean), f64::from(*std));
            match way {
                _ if std == 0.0 => (mean, constant_range(mean, way) / 2.0),
                Way::In => (mean, std + epsilon),
                Way::Out => (mean, std),
            }
        })
    };
    let normalizer = Normalizer {
        low: pairs().map(|(mean, std)| mean - std).collect(),
        high: pairs().map(|(mean, std)| mean + std).collect(),
    };
    let factors: Vec<(f64, f64)> = pairs().map(|(mean, std)| (1.0 / std, -mean / std)).collect();
    represented(what, normalizer, |number| factors[number])
}

/// The width of a range around a number that never varies: what is observed is passed on as it is, less the constant;
/// what is planned moves the constant by next to nothing, but by enough for a range of ours.
fn constant_range(value: f64, way: Way) -> f64 {
    match way {
        Way::In => 2.0,
        Way::Out => 1.01 * (1e-6 * value.abs()).max(1e-4),
    }
}

/// Lets a normaliser pass that maps every number by these factors and offsets.
fn represented(
    what: &str,
    normalizer: Normalizer,
    factors: impl Fn(usize) -> (f64, f64),
) -> Result<Normalizer, String> {
    normalizer.check(normalizer.low.len()).map_err(|problem| format!("`{what}`: {problem}"))?;
    let bounds = [&normalizer.low, &normalizer.high];
    for bound in bounds {
        for (number, (value, is)) in bound.iter().zip(normalizer.normalise(bound.iter().copied())).enumerate()
        {
            let (factor, offset) = factors(number);
            let want = value * factor + offset;
            // What is left is the rounding of f32.
            if (f64::from(is) - want).abs() > 1e-5 * want.abs().max(1.0) {
                let range = normalizer.high[number] - normalizer.low[number];
                return Err(format!(
                    "the normaliser of `{what}` spreads number {number} over a range of {range:e}, too narrow for \
                     ours, which takes it for a constant: give it in a smaller unit, or leave it out, and train again"
                ));
            }
        }
    }
    Ok(normalizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(normalizer: &Normalizer, value: f64) -> f64 {
        f64::from(normalizer.normalise([value]).next().unwrap())
    }

    fn back(normalizer: &Normalizer, value: f32) -> f64 {
        normalizer.unnormalise([value]).next().unwrap()
    }

    #[test]
    fn a_factor_and_an_offset_become_the_range_that_they_stand_for() {
        let normalizer = from_scale_and_offset("obs", 2, &[2.0 / 512.0, 1.0], &[-1.0, -7.0]).unwrap();
        assert_eq!((normalizer.low[0], normalizer.high[0]), (0.0, 512.0));
        // diffusion_policy's constant dimension: a factor of 1, and 0 at the constant.
        assert_eq!(normalizer.normalise([256.0, 7.0]).collect::<Vec<_>>(), [0.0, 0.0]);
        assert_eq!(normalizer.normalise([256.0, 7.5]).nth(1), Some(0.5));
        // One factor for all.
        assert_eq!(from_scale_and_offset("obs", 3, &[1.0], &[0.0]).unwrap().low, [-1.0; 3]);
        for (scale, offset, reason) in [
            (&[0.0][..], &[0.0][..], "not above 0"),
            (&[-1.0], &[0.0], "not above 0"),
            (&[1e5], &[0.0], "too narrow"),
            (&[1.0, 1.0], &[0.0, 0.0], "2 factors"),
            (&[1.0], &[0.0, 0.0], "2 offsets"),
            (&[], &[], "0 factors"),
        ] {
            let error = from_scale_and_offset("obs", 3, scale, offset).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_range_that_never_varied_is_lerobots_minus_one() {
        for constant in [7.0, -1e5] {
            let seen = from_range("state", &[constant], &[constant], Way::In).unwrap();
            assert_eq!(normalised(&seen, f64::from(constant)), -1.0);
            let planned = from_range("action", &[constant], &[constant], Way::Out).unwrap();
            for value in [-1.0, 0.0, 1.0] {
                let error = back(&planned, value) - f64::from(constant);
                assert!(error.abs() <= 1.1e-4 * f64::from(constant).abs().max(100.0) / 100.0, "{error}");
            }
            assert_eq!(back(&planned, -1.0), f64::from(constant));
        }
        let error = from_range("state", &[0.0], &[1e-5], Way::In).unwrap_err();
        assert!(error.contains("number 0") && error.contains("too narrow"), "{error}");
        assert!(from_range("state", &[1.0], &[0.0], Way::In).unwrap_err().contains("before it begins"));
    }

    #[test]
    fn mean_and_deviation_are_a_range_about_the_mean() {
        let seen = from_mean_and_std("state", &[3.0], &[0.5], 1e-8, Way::In).unwrap();
        assert!((normalised(&seen, 4.0) - 2.0).abs() < 1e-6 && (back(&seen, -1.0) - 2.5).abs() < 1e-6);
        let seen = from_mean_and_std("state", &[3.0], &[0.0], 1e-8, Way::In).unwrap();
        assert_eq!(normalised(&seen, 3.0), 0.0);
        let planned = from_mean_and_std("action", &[3.0], &[0.0], 1e-8, Way::Out).unwrap();
        assert!((back(&planned, 1.0) - 3.0).abs() < 1e-4);
        assert!(from_mean_and_std("state", &[3.0], &[-1.0], 1e-8, Way::In).unwrap_err().contains("negative"));
    }
}
