use super::*;

fn problems(csv: &str) -> Vec<String> {
    Trace::read(csv.as_bytes())
        .expect_err("it is wrong")
        .to_string()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn a_trace_is_read_and_sorted() {
    let csv = "start, duration_minutes, tenant, plan, provider, created, no_show\n\
               # a comment\n\
               2026-03-03T10:00:00+01:00, 30, acme, enterprise, zoom, , \n\
               2026-03-03T08:30:00Z, 0.5, globex, , , 2026-03-03T08:29:00Z, true\n";
    let trace = Trace::read(csv.as_bytes()).expect("it can be read");
    assert_eq!(trace.tenants, ["acme", "globex"]);
    let [first, second] = &trace.meetings[..] else { panic!("two meetings") };
    assert_eq!(
        (first.start.to_string(), first.end.to_string()),
        ("2026-03-03T08:30:00Z".into(), "2026-03-03T08:30:30Z".into())
    );
    assert_eq!((first.tenant, first.tier(), first.provider.as_str(), first.no_show), (1, 100, "web", true));
    assert_eq!((second.start.to_string(), second.tier(), second.created), ("2026-03-03T09:00:00Z".into(), 10, None));
    assert_eq!(trace.span(), Some((first.start, second.end)));
}

#[test]
fn problems_name_line_and_column() {
    let csv = "start,duration_minutes,provider,plan,priority,created,no_show\n\
               2026-03-03T10:00:00,30,zoom,,,,\n\
               2026-03-03T10:00:00Z,0,zoom,,,,\n\
               2026-03-03T10:00:00Z,30,Zoom!,gold,high,,maybe\n\
               ,,,,,yesterday,\n";
    let found = problems(csv);
    let expected = [
        "the trace cannot be played:",
        "line 2, column start: \"2026-03-03T10:00:00\": ",
        "line 3, column duration_minutes: 0: expected more than 0 and at most 10080",
        "line 4, column provider: \"Zoom!\": ",
        "line 4, column plan: \"gold\": must be free, standard, professional or enterprise",
        "line 4, column priority: \"high\": invalid digit found in string",
        "line 4, column no_show: \"maybe\": expected true or false",
        "line 5, column start: is empty",
        "line 5, column duration_minutes: is empty",
        "line 5, column created: \"yesterday\": ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
    let ends = "start,end\n2026-03-03T10:00:00Z,2026-03-03T10:00:00Z\n";
    assert_eq!(problems(ends)[1], "line 2, column end: is not after start");
}

#[test]
fn missing_columns_and_short_lines_are_named() {
    let columns = [
        ("begin,end\n", "the trace's columns: \"begin\" is none of start, duration_minutes, end"),
        ("start\n", "the trace's columns: either duration_minutes or end has to be there"),
        ("end\n", "the trace's columns: start is missing"),
        ("start,end,end\n", "the trace's columns: end stands there twice"),
        ("start,end\n2026-03-03T10:00:00Z\n", "the trace cannot be read: CSV error: record 1 (line: 2"),
    ];
    for (csv, expected) in columns {
        assert!(problems(csv)[0].starts_with(expected), "{:?}", problems(csv));
    }
    assert_eq!(Trace::read("start,end\n".as_bytes()).expect("an empty day"), Trace::default());
}
