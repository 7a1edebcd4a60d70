//! Requests and responses of a service that is not one of ours.

use std::path::Path;

use greenroom_transcode::{DescriptorPool, DynamicMessage, Masked, Operation, Violation, operations};
use prost::Message as _;
use prost_reflect::Value;
use serde_json::{Value as Json, json};

fn pool() -> DescriptorPool {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([here.join("tests"), here.join("../../proto")]).expect("folders");
    compiler.include_imports(true).open_file("library.proto").expect("a proto");
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).expect("descriptors")
}

fn all() -> Vec<Operation> {
    operations(&pool(), &["library.v1.LibraryService"]).expect("operations")
}

fn operation(method: &str, path: &str) -> Operation {
    let found = all().into_iter().find(|operation| operation.method() == method && operation.path() == path);
    found.expect("an operation")
}

fn create(body: Json) -> Result<DynamicMessage, Vec<Violation>> {
    operation("POST", "/v1/shelves/{shelf}/books").request([("shelf", "7")], "", &body.to_string())
}

fn refused(result: Result<DynamicMessage, Vec<Violation>>) -> Vec<String> {
    let violations = result.expect_err("violations");
    violations.into_iter().map(|Violation { field, description }| format!("{field} {description}")).collect()
}

#[test]
fn every_binding_is_an_operation() {
    let found: Vec<_> =
        all().iter().map(|one| format!("{} {} {}", one.method(), one.path(), one.rpc().name())).collect();
    assert_eq!(
        found,
        [
            "POST /v1/shelves/{shelf}/books CreateBook",
            "GET /v1/shelves/{shelf}/books ListBooks",
            "GET /v1/books ListBooks",
            "PATCH /v1/books/{id} UpdateBook",
            "POST /v1/books/{id}/lend LendBook",
        ]
    );
    assert!(operations(&pool(), &["library.v1.NoService"]).is_err());
}

#[test]
fn a_response_reads_back_as_the_request() {
    let book = json!({
        "title": "Pnin", "subtitle": "", "state": "LENT", "pages": 191, "sizeBytes": 18_446_744_073_709_551_615_u64,
        "shift": -7, "weightKg": 0.2, "lendable": true, "cover": "AAE=", "authors": ["V. N."],
        "chapters": [{"title": "One"}, {"title": "Two"}], "ratings": {"times": 5, "tls": 4},
        "boughtAt": "2026-11-29T10:00:00.5Z", "publisher": {"name": "Doubleday", "founded": 0}, "box": 3, "notes": {"z": [1], "a": 2}, "binding": "soft_cover",
    });
    let request = create(book.clone()).expect("a request");
    assert_eq!(request.get_field_by_name("shelf").as_deref(), Some(&Value::U32(7)));
    let inner = request.get_field_by_name("book").expect("a book").as_message().expect("a message").encode_to_vec();
    let response = operation("POST", "/v1/shelves/{shelf}/books").response(&inner).expect("JSON");
    assert_eq!(serde_json::from_slice::<Json>(&response).expect("JSON"), book);
}

#[test]
fn a_response_shows_numbers_flags_and_lists_and_nothing_empty() {
    let response = operation("POST", "/v1/shelves/{shelf}/books").response(&[]).expect("JSON");
    let expected = r#"{"pages":0,"shift":0,"weightKg":0.0,"lendable":false,"authors":[],"chapters":[],"ratings":{}}"#;
    assert_eq!(String::from_utf8(response).expect("text"), expected);
    // A value of a newer version has no name here.
    let response = operation("POST", "/v1/shelves/{shelf}/books").response(&[3 << 3, 9]).expect("JSON");
    assert_eq!(serde_json::from_slice::<Json>(&response).expect("JSON")["state"], 9);
}

#[test]
fn every_violation_is_named_where_it_is() {
    let violations = refused(create(json!({
        "title": 1, "state": "STATE_LENT", "binding": "HARD", "pages": -1, "sizeBytes": "7", "shift": 1.5, "weightKg": "heavy",
        "lendable": 1, "cover": "§", "authors": ["a", 2, null], "chapters": [{"title": "One"}, {"titel": "Two"}], "ratings": {"times": "5"},
        "boughtAt": "yesterday", "publisher": {"founded": 4_294_967_296_u64}, "size_bytes": 7, "room": "a", "box": 1,
    })));
    let expected = [
        "title must be a string",
        "state must be one of ON_SHELF, LENT",
        "binding must be one of hard, soft_cover",
        "pages must be a whole number, not negative and not too large",
        "sizeBytes must be a whole number, not negative and not too large",
        "shift must be a whole number, and not too large",
        "weightKg must be a number",
        "lendable must be true or false",
        "cover must be base64",
        "authors[1] must be a string",
        "authors[2] must not be null",
        "chapters[1].titel there is no such field",
        "ratings.times must be a whole number, not negative and not too large",
        "boughtAt must be a time with its offset (RFC 3339), such as 2027-01-31T10:00:00Z or 2027-01-31T11:00:00+01:00",
        "publisher.founded must be a whole number, not negative and not too large",
        "size_bytes there is no such field",
    ];
    for one in expected {
        assert!(violations.iter().any(|violation| violation == one), "{one}: {violations:#?}");
    }
    // Names come in the order of the alphabet, so it is the other one that is refused.
    assert!(violations.iter().any(|one| one == "room must not be given together with box"), "{violations:#?}");
    assert_eq!(violations.len(), expected.len() + 1);
}

#[test]
fn null_is_absent() {
    let request = create(json!({"title": null, "publisher": null, "authors": null})).expect("a request");
    let inner = request.get_field_by_name("book").expect("a book").into_owned();
    assert_eq!(inner.as_message().expect("a message").encode_to_vec(), b"");
}

#[test]
fn a_patch_names_what_it_changes() {
    let update = operation("PATCH", "/v1/books/{id}");
    let patch = json!({
        "title": "Ada", "pages": null, "publisher": {"founded": null, "name": "McGraw-Hill"}, "authors": [],
    })
    .to_string();
    let request = update.request([("id", "b")], "", &patch).expect("a request");
    let mask = request.get_field_by_name("update_mask").expect("a mask");
    let paths = mask.as_message().expect("a message").get_field_by_name("paths").expect("paths");
    let mut paths: Vec<_> = paths.as_list().expect("a list").iter().filter_map(|path| path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["authors", "pages", "publisher.founded", "publisher.name", "title"]);
    // The length of a book that does not follow.
    assert!(update.response(&[1 << 3 | 2, 5]).is_err(), "it is cut off");
}

#[test]
fn fields_outside_the_path_are_query_parameters() {
    let list = operation("GET", "/v1/shelves/{shelf}/books");
    let query = "state=LENT&author=a&author=b%20c&pageSize=5&boughtAfter=2026-11-29T10:00:00Z";
    let request = list.request([("shelf", "1")], query, "").expect("a request");
    assert_eq!(request.get_field_by_name("state").as_deref(), Some(&Value::EnumNumber(2)));
    assert_eq!(request.get_field_by_name("page_size").as_deref(), Some(&Value::U32(5)));
    assert_eq!(request.get_field_by_name("author").and_then(|list| list.as_list().map(<[Value]>::len)), Some(2));
    let query = "state=lent&pageSize=1&pageSize=2&colour=red&shelf=2&publisher=x&boughtAfter=now";
    let violations = refused(list.request([("shelf", "x")], query, ""));
    let time = "boughtAfter must be a time with its offset (RFC 3339), such as 2027-01-31T10:00:00Z or \
                2027-01-31T11:00:00+01:00";
    assert_eq!(
        violations,
        [
            "state must be one of ON_SHELF, LENT",
            "pageSize must not be given twice",
            "colour there is no such parameter",
            "shelf there is no such parameter",
            "publisher cannot be a parameter",
            time,
            "shelf must be a whole number, not negative and not too large",
        ]
    );
    let books = operation("GET", "/v1/books");
    assert!(books.request([], "shelf=3", "").is_ok(), "it is not in this path");
}

#[test]
fn a_body_does_not_name_what_is_in_the_path() {
    let lend = operation("POST", "/v1/books/{id}/lend");
    let request = lend.request([("id", "b")], "", &json!({"toWhom": "me"}).to_string()).expect("a request");
    assert_eq!(request.get_field_by_name("id").as_deref(), Some(&Value::String("b".into())));
    assert_eq!(
        refused(lend.request([("id", "b")], "x=1", &json!({"id": "c"}).to_string())),
        ["id there is no such field", "x there is no such parameter"]
    );
}

#[test]
fn fields_are_called_as_over_http() {
    let create = operation("POST", "/v1/shelves/{shelf}/books");
    for (path, name) in [
        ("book.bought_at", "boughtAt"),
        ("book.chapters[1].title", "chapters[1].title"),
        ("book", "(body)"),
        ("shelf", "shelf"),
    ] {
        assert_eq!(create.field_name(path), name);
    }
    assert_eq!(operation("POST", "/v1/books/{id}/lend").field_name("to_whom"), "toWhom");
}

#[test]
fn a_json_document_keeps_its_text() {
    let create = operation("POST", "/v1/shelves/{shelf}/books");
    let body = r#"{"title": "Pnin", "notes": {"z": 1.0,  "a": 12345678901234567890123}}"#;
    let request = create.request([("shelf", "7")], "", body).expect("a request");
    let book = request.get_field_by_name("book").expect("a book").as_message().expect("a message").encode_to_vec();
    let response = String::from_utf8(create.response(&book).expect("JSON")).expect("text");
    assert!(response.contains(r#""notes":{"z": 1.0,  "a": 12345678901234567890123}"#), "{response}");
    // A patch of it is one document, whatever it names.
    let update = operation("PATCH", "/v1/books/{id}");
    let request = update.request([("id", "b")], "", r#"{"notes": {"a": null}}"#).expect("a request");
    let mask = request.get_field_by_name("update_mask").expect("a mask");
    let paths = mask.as_message().expect("a message").get_field_by_name("paths").expect("paths");
    assert_eq!(paths.as_list().expect("a list"), [Value::String("notes".into())]);
}

#[test]
fn a_body_is_an_object() {
    let create = operation("POST", "/v1/shelves/{shelf}/books");
    for body in ["[]", "7", "null", ""] {
        assert_eq!(refused(create.request([("shelf", "7")], "", body)), ["(body) must be a JSON object"], "{body}");
    }
}

#[test]
fn an_empty_object_of_a_patch_changes_nothing() {
    let update = operation("PATCH", "/v1/books/{id}");
    let request = update.request([("id", "b")], "", r#"{"publisher": {}}"#).expect("a request");
    let mask =
        request.get_field_by_name("update_mask").expect("a mask").as_message().expect("a message").encode_to_vec();
    assert_eq!(mask, b"");
}

#[test]
fn a_long_list_of_bad_items_gets_a_short_answer() {
    let authors = vec![7; 30_000];
    assert_eq!(refused(create(json!({"authors": authors}))).len(), 100);
}

#[derive(Clone, PartialEq, prost::Message)]
struct Publisher {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, optional, tag = "2")]
    founded: Option<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Book {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(message, optional, tag = "13")]
    bought_at: Option<prost_types::Timestamp>,
    #[prost(message, optional, tag = "14")]
    publisher: Option<Publisher>,
}

#[test]
fn a_mask_names_what_is_changed() {
    let encoded = pool().encode_to_vec();
    let books = Masked::new(&encoded, "library.v1.Book").expect("a message");
    for (path, is_there) in [
        ("title", true),
        ("publisher", true),
        ("publisher.founded", true),
        ("bought_at", true),
        ("bought_at.seconds", false),
        ("title.first", false),
        ("chapters.title", false),
        ("colour", false),
        ("publisher.", false),
        ("", false),
    ] {
        assert_eq!(books.has(path), is_there, "{path}");
    }
    assert_eq!(books.json_name("bought_at").as_deref(), Some("boughtAt"));
    let of = |name: &str, founded| Some(Publisher { name: name.to_owned(), founded });
    let before = Book { title: "Pnin".to_owned(), bought_at: None, publisher: of("Doubleday", Some(1897)) };
    let change = Book { title: "Ada".to_owned(), bought_at: None, publisher: of("McGraw-Hill", None) };
    let merged = |paths: &[&str]| {
        let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
        books.merged(&before, &change, &paths).expect("books")
    };
    assert_eq!(merged(&[]), before);
    assert_eq!(merged(&["publisher.founded"]).publisher, of("Doubleday", None));
    assert_eq!(merged(&["title", "publisher"]), change);
}
