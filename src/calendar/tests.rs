//! Against another implementation, and what must hold of any expression.

use chrono::{DateTime, Timelike, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::Cron;
use super::zone::local;

/// What cronsim 2.7 says: expression, zone, start, and the seconds to each firing after the one before. Some
/// 2,000 random expressions in UTC, a tenth of them with seconds, 950 around changes of the clock of every zone
/// that has one from 2018 to 2024, 550 in random zones. Left out is where cronsim is known to differ: a range of one
/// number with a step (`20-20/4`), which it reads as `20/4`, and four expressions around changes of half an hour,
/// where it steps by whole hours and misses firings that are due by its own rule.
const CRONSIM: &str = include_str!("cronsim.txt");

fn cron(text: &str) -> Cron {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

/// The firings after a moment, as the local clock shows them.
fn shown(text: &str, zone: Tz, from: &str, count: usize) -> Vec<String> {
    let mut moment = at(from);
    let next = |_| {
        moment = cron(text).next_after(moment, zone)?;
        Some(moment.with_timezone(&zone).format("%d %H:%M:%S %z").to_string())
    };
    (0..count).map_while(next).collect()
}

#[test]
fn thousands_of_expressions_fire_as_another_implementation_says() {
    let mut wrong = Vec::new();
    for line in CRONSIM.lines() {
        let [expression, zone, start, deltas] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let (cron, zone) = (cron(expression), zone.parse::<Tz>().unwrap());
        let mut moment = DateTime::from_timestamp(start.parse().unwrap(), 0).unwrap();
        let mut found = Vec::new();
        for _ in deltas.split(' ') {
            let next = cron.next_after(moment, zone).expect("a firing");
            found.push((next - moment).num_seconds().to_string());
            moment = next;
        }
        if found.join(" ") != deltas {
            wrong.push(format!("{line} but {}", found.join(" ")));
        }
    }
    assert!(CRONSIM.lines().count() > 3_500);
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

#[test]
fn a_fixed_time_in_a_gap_fires_behind_it_and_one_that_comes_twice_fires_once() {
    let berlin = Tz::Europe__Berlin;
    assert_eq!(
        shown("30 2 * * *", berlin, "2026-03-28T00:00:00Z", 3),
        ["28 02:30:00 +0100", "29 03:00:00 +0200", "30 02:30:00 +0200"]
    );
    assert_eq!(
        shown("30 2 * * *", berlin, "2026-10-24T00:00:00Z", 3),
        ["24 02:30:00 +0200", "25 02:30:00 +0200", "26 02:30:00 +0100"]
    );
    // Two times of one gap and the first moment behind it are one firing.
    assert_eq!(
        shown("0,30 2-3 * * *", berlin, "2026-03-29T00:00:00Z", 3),
        ["29 03:00:00 +0200", "29 03:30:00 +0200", "30 02:00:00 +0200"]
    );
    assert_eq!(
        shown("15 30 2 * * *", berlin, "2026-03-28T12:00:00Z", 1),
        ["29 03:00:00 +0200"],
        "with seconds as well"
    );
    assert_eq!(shown("0 0 30 12 *", Tz::Pacific__Apia, "2011-12-01T00:00:00Z", 1), ["31 00:00:00 +1400"]);
}

#[test]
fn an_expression_that_says_how_often_follows_real_time() {
    let minutes = |from: &str, count| shown("*/30 * * * *", Tz::Europe__Berlin, from, count);
    assert_eq!(minutes("2026-03-29T00:30:00Z", 2), ["29 03:00:00 +0200", "29 03:30:00 +0200"]);
    assert_eq!(
        minutes("2026-10-25T00:00:00Z", 4),
        ["25 02:30:00 +0200", "25 02:00:00 +0100", "25 02:30:00 +0100", "25 03:00:00 +0100"]
    );
    // Where the clock goes back by half an hour, too.
    assert_eq!(
        shown("15 */1 * * *", Tz::Australia__Lord_Howe, "2024-04-06T14:00:00Z", 2),
        ["07 01:15:00 +1100", "07 02:15:00 +1030"]
    );
    assert_eq!(
        shown("45 */1 * * *", Tz::Australia__Lord_Howe, "2024-04-06T14:00:00Z", 2),
        ["07 01:45:00 +1100", "07 01:45:00 +1030"]
    );
    // The day before comes again where the clock goes back across midnight.
    assert_eq!(
        shown("59 * 4 11 *", Tz::America__Havana, "2018-11-04T04:00:00Z", 2),
        ["04 00:59:00 -0400", "04 00:59:00 -0500"]
    );
}

#[test]
fn words_names_sundays_and_spaces_mean_what_crontab_means() {
    for (text, same) in [
        ("@daily", "0 0 * * *"),
        ("@Hourly", "0 * * * *"),
        ("@weekly", "0 0 * * sun"),
        ("@yearly", "0 0 1 jan *"),
        (" 5  4\t* * * ", "5 4 * * *"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 * * fri,sat,SUN"),
        ("0 0 * MAR-may *", "0 0 * 3-5 *"),
        ("0 3-23/5 * * *", "0 3,8,13,18,23 * * *"),
        ("10/20 0 * * *", "10,30,50 0 * * *"),
        ("0 5 4 * * *", "5 4 * * *"),
        ("0 0 * * */3", "0 0 * * 0,3,6"),
    ] {
        let firings = |text: &str| {
            let mut moment = at("2026-01-01T00:00:00Z");
            std::array::from_fn::<_, 20, _>(|_| {
                moment = cron(text).next_after(moment, Tz::UTC).unwrap();
                moment
            })
        };
        assert_eq!(firings(text), firings(same), "{text}");
    }
}

#[test]
fn either_day_matches_where_both_are_restricted_and_both_have_to_where_one_is_not() {
    let days = |text: &str| -> Vec<String> {
        let firings = shown(text, Tz::UTC, "2026-01-01T00:00:00Z", 4);
        firings.iter().map(|firing| firing[..2].to_owned()).collect()
    };
    assert_eq!(days("0 0 13 * fri"), ["02", "09", "13", "16"]);
    assert_eq!(days("0 0 */10 * fri"), ["01", "31", "21", "11"]);
}

#[test]
fn what_is_no_expression_says_where_and_why() {
    for (text, place, why) in [
        ("* * * *", "* * * *", "has 4 fields"),
        ("", "", "has 0 fields"),
        ("60 * * * *", "60", "`60` is no minute: write a number from 0 to 59"),
        ("0 24 * * *", "24", "no hour"),
        ("0 0 0 * *", "0", "no day of the month"),
        ("0 0 * 13 *", "13", "no month"),
        ("0 0 * * mo", "mo", "or `sun` to `sat`"),
        ("0 0 * * 8", "8", "from 0 to 7"),
        ("0 0 1,x * *", "x", "`x` is no day of the month"),
        ("*/0 * * * *", "0", "`0` is no step"),
        ("*/-1 * * * *", "-1", "no step"),
        ("30-10 * * * *", "30-10", "ends before it begins"),
        ("0 0 L * *", "L", "no day of the month"),
        ("0 0 * * 1#2", "1#2", "no day of the week"),
        ("+5 * * * *", "+5", "no minute"),
        ("0 0 31 2 *", "0 0 31 2 *", "never comes"),
        ("0 0 31 apr,jun */2", "0 0 31 apr,jun */2", "never comes"),
        ("@reboot", "@reboot", "there is no `@reboot`"),
    ] {
        let error = text.parse::<Cron>().unwrap_err();
        assert!(error.message.contains(why), "{text}: {error}");
        let range = text.get(error.range.clone()).unwrap_or_default();
        assert_eq!(range, place, "{text}");
    }
    for fine in ["0 0 29 2 *", "0 0 31 2 mon", "0 0 30-31 1-2 *"] {
        cron(fine);
    }
    assert_eq!(
        cron("0 0 29 2 */7").next_after(at("2072-01-01T00:00:00Z"), Tz::UTC),
        Some(at("2088-02-29T00:00:00Z"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_firing_is_later_nothing_is_left_out_before_it_and_the_clock_shows_it(
        minute in prop_oneof![Just("*".to_owned()), (0u8..60).prop_map(|n| n.to_string()), (1u8..60).prop_map(|n| format!("*/{n}"))],
        hour in prop_oneof![Just("*".to_owned()), (0u8..24).prop_map(|n| n.to_string()), (1u8..24).prop_map(|n| format!("*/{n}"))],
        zone in 0..chrono_tz::TZ_VARIANTS.len(),
        start in 1_514_764_800i64..1_900_000_000,
        earlier in 1i64..200_000,
    ) {
        let (zone, cron) = (chrono_tz::TZ_VARIANTS[zone], cron(&format!("{minute} {hour} * * *")));
        let after = DateTime::from_timestamp(start, 0).unwrap();
        let next = cron.next_after(after, zone).unwrap();
        prop_assert!(next > after);
        let shown = local(zone, next);
        if minute.starts_with('*') || hour.starts_with('*') {
            let has = |text: &str, shown: u32| match text.strip_prefix("*/") {
                Some(step) => shown.is_multiple_of(step.parse().unwrap()),
                None => text == "*" || text == shown.to_string(),
            };
            prop_assert!(has(&minute, shown.minute()) && has(&hour, shown.hour()) && shown.second() == 0);
        }
        // Whoever asks earlier finds it, or something before it.
        let before = cron.next_after(DateTime::from_timestamp(start - earlier, 0).unwrap(), zone).unwrap();
        prop_assert!(before <= next);
        prop_assert!(before == next || before <= after);
    }
}
