//! `lfmark models`, and what the program says of itself.

use crate::support::Folder;

#[test]
fn models_lists_every_model_with_its_parameters() {
    let folder = Folder::new();
    let expected = [
        ("embedded", 1_462_464, "trained"),
        ("lfm2-350m", 354_483_968, "random"),
        ("lfm2-700m", 742_489_344, "random"),
        ("lfm2-1.2b", 1_170_340_608, "random"),
        ("lfm2-2.6b", 2_569_272_320_u64, "random"),
    ];
    let json = folder.lfmark("models --json").json();
    let listed: Vec<_> = json["models"].as_array().unwrap().iter().collect();
    assert_eq!(listed.len(), expected.len());
    let text = folder.ok("models").stdout;
    for (listed, (name, parameters, weights)) in listed.iter().zip(expected) {
        assert_eq!(listed["name"], name);
        assert_eq!(listed["parameters"], parameters);
        assert_eq!(listed["weights"], weights);
        assert!(text.contains(name), "{text}");
    }
    assert!(text.contains("1,170,340,608"), "{text}");
}

#[test]
fn help_shows_every_exit_code() {
    let help = Folder::new().ok("--help").stdout;
    for line in [
        "0  ok",
        "1  error",
        "2  usage",
        "3  regressed",
        "4  inconclusive",
        "5  void",
        "6  not comparable",
    ] {
        assert!(help.contains(line), "no `{line}` in:\n{help}");
    }
}
