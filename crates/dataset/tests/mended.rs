//! What the doctor names is gone after the edit that it advises.

#[allow(dead_code, reason = "the doctor's own tests use the rest of it")]
mod planted;

use nudge_dataset::{
    Conversion, Dataset, Diagnosis, Edit, ExamineOptions, Fault, Finding, Numbers, Selection, convert,
    examine,
};
use planted::faults::PLANTS;
use planted::{Demos, Dice};

fn edit(edit: Edit) -> Conversion {
    Conversion { edits: vec![edit], ..Conversion::default() }
}

fn select(selection: Selection) -> Conversion {
    Conversion { selection, ..Conversion::default() }
}

/// The number that a finding is about.
fn number(finding: &Finding) -> Numbers {
    Numbers { feature: finding.feature.clone().unwrap(), places: finding.number.map(|number| vec![number]) }
}

/// The conversion that an option of an advised command asks for.
fn advised(option: &str, finding: &Finding) -> Conversion {
    let value = || {
        let command = finding.mend.iter().find(|command| command.contains(option)).unwrap();
        command.split(option).nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    match option {
        "--drop-non-finite" => select(Selection { finite: true, ..Selection::default() }),
        "--drop-duplicates" => select(Selection { distinct: true, ..Selection::default() }),
        "--drop " => select(Selection { drop: vec![value().parse().unwrap()], ..Selection::default() }),
        "--drop-repeated" => edit(Edit::DropRepeated),
        "--trim-idle" => edit(Edit::TrimIdle),
        "--fps" => Conversion { fps: Some(value().parse().unwrap()), ..Conversion::default() },
        "--drop-numbers" => edit(Edit::DropNumbers(number(finding))),
        "--unwrap" => edit(Edit::Unwrap(number(finding))),
        "--degrees" => {
            let target = value();
            let (feature, place) = target.rsplit_once(':').unwrap();
            let places = Some(vec![place.parse().unwrap()]);
            edit(Edit::Degrees(Numbers { feature: feature.to_owned(), places }))
        }
        "--shift-action" => edit(Edit::ShiftAction(value().parse().unwrap())),
        other => panic!("{other} is not known here"),
    }
}

#[test]
fn what_is_advised_mends_what_was_found() {
    let sound = Demos::made(7);
    let folder = tempfile::tempdir().unwrap();
    let of = |diagnosis: &Diagnosis, fault: Fault| {
        diagnosis.findings.iter().filter(|finding| finding.fault == fault).count()
    };
    let dir = folder.path().join("sound");
    sound.write(&dir);
    let healthy = examine(&dir, &ExamineOptions::default());
    for (nth, (name, option)) in [
        ("NaN", "--drop-non-finite"),
        ("infinity", "--drop-non-finite"),
        ("another frame rate", "--fps"),
        ("a constant number", "--drop-numbers"),
        ("an angle wrapped in one episode", "--unwrap"),
        ("a frame recorded five times", "--drop-repeated"),
        ("idle beginning", "--trim-idle"),
        ("idle end", "--trim-idle"),
        ("actions too late, whole set", "--shift-action"),
        ("a teleport", "--drop "),
        ("the same episode twice", "--drop-duplicates"),
        ("actions in degrees", "--degrees"),
    ]
    .into_iter()
    .enumerate()
    {
        let plant = PLANTS.iter().find(|(known, _)| *known == name).unwrap().1;
        let mut demos = sound.clone();
        let expected = plant(&mut demos, &mut Dice(40 + nth as u64));
        let dir = folder.path().join(format!("set{nth}"));
        demos.write(&dir);
        let ill = examine(&dir, &ExamineOptions::default());
        let advising = ill.findings.iter().filter(|finding| {
            finding.fault == expected.fault && finding.mend.iter().any(|mend| mend.contains(option))
        });
        // Each finding may be about one number.
        let conversion = advising.map(|finding| advised(option, finding)).reduce(|mut all, next| {
            all.edits.extend(next.edits);
            all
        });
        let conversion = conversion.unwrap_or_else(|| panic!("{name}: {option} is not advised"));
        let out = folder.path().join(format!("mended{nth}"));
        convert(&Dataset::open(&dir).unwrap(), &out, &conversion, &mut |_| ()).unwrap();
        let mended = examine(&out, &ExamineOptions::default());
        let (was, now) = (of(&ill, expected.fault), of(&mended, expected.fault));
        println!(
            "{name}: {option} leaves {now} of {was} findings, a sound set has {}",
            of(&healthy, expected.fault)
        );
        assert!(now < was && now <= of(&healthy, expected.fault), "{name}: {:?}", mended.findings);
    }
}
