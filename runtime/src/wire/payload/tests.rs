//! Payloads: round trips, what is borrowed, and what bytes from a stranger cannot do.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Order<'a> {
    id: u64,
    #[serde(borrow)]
    item: &'a str,
    price: Option<Money>,
    tags: Vec<String>,
    kind: Kind,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Money(i128);

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Kind {
    Plain,
    Gift(String),
    Split(u8, f64),
    Timed { at: u32, name: char },
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Tree {
    Leaf,
    Branch(Box<Tree>),
    Many(Vec<Tree>),
}

#[derive(Serialize, Deserialize, Debug)]
struct Wrapped(Box<Wrapped>);

#[derive(Serialize, Deserialize, Debug)]
struct Chain {
    next: Option<Box<Chain>>,
}

fn encoded<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes).unwrap();
    bytes
}

#[track_caller]
fn refused<'de, T: Deserialize<'de> + Debug>(bytes: &'de [u8]) -> String {
    decode::<T>(bytes).unwrap_err().to_string()
}

/// Encodes as postcard does, and decodes to the same value.
#[track_caller]
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let bytes = encoded(&value);
    assert_eq!(bytes, postcard::to_allocvec(&value).unwrap());
    assert_eq!(decode::<T>(&bytes).unwrap(), value);
}

fn nested(levels: usize) -> Tree {
    (0..levels).fold(Tree::Leaf, |inner, _| Tree::Branch(Box::new(inner)))
}

#[test]
fn every_kind_of_value_comes_back_in_the_bytes_of_postcard() {
    round_trip(());
    round_trip((true, 'ß', "text".to_string(), 1.5f32, -2.5f64));
    round_trip((u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX));
    round_trip((i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN));
    round_trip((Some(7u8), None::<u8>, Some(Some(()))));
    round_trip([[1u16; 3]; 2]);
    round_trip(vec![(), (), ()]);
    round_trip(BTreeMap::from([(1u8, vec!["a".to_string()]), (2, vec![])]));
    round_trip(HashMap::from([("key".to_string(), 1u64)]));
    round_trip(HashSet::from([3u32, 4]));
    round_trip(vec![
        Kind::Plain,
        Kind::Gift("x".into()),
        Kind::Split(1, 2.0),
        Kind::Timed { at: 1, name: 'n' },
    ]);
    round_trip(Tree::Many(vec![Tree::Leaf, Tree::Branch(Box::new(Tree::Many(vec![])))]));
    round_trip("127.0.0.1:80".parse::<std::net::SocketAddr>().unwrap());
    round_trip(std::time::Duration::from_millis(1500));
    round_trip(Ok::<u8, String>(1));
}

#[test]
fn encode_appends_and_restores_the_buffer_when_it_fails() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("the vault is open"))
        }
    }
    let mut buffer = vec![9];
    encode(&1u8, &mut buffer).unwrap();
    assert_eq!(buffer, [9, 1]);
    let error = encode(&("some text", Refuses), &mut buffer).unwrap_err();
    assert_eq!(error.to_string(), "the vault is open");
    assert_eq!(buffer, [9, 1]);
}

#[test]
fn strings_and_bytes_are_borrowed_from_the_payload() {
    let order = Order {
        id: 1,
        item: "an item",
        price: Some(Money(-5)),
        tags: vec!["t".into()],
        kind: Kind::Plain,
    };
    let bytes = encoded(&order);
    let inside = |start: *const u8| bytes.as_ptr_range().contains(&start);

    let decoded: Order<'_> = decode(&bytes).unwrap();
    assert_eq!(decoded, order);
    assert!(inside(decoded.item.as_ptr()));

    let bytes = encoded("text");
    let inside = |start: *const u8| bytes.as_ptr_range().contains(&start);
    let CowStr(Cow::Borrowed(text)) = decode(&bytes).unwrap() else { panic!("a copy") };
    assert!(text == "text" && inside(text.as_ptr()));
    let AsBytes(Cow::Borrowed(slice)) = decode(&bytes).unwrap() else { panic!("a copy") };
    assert!(slice == b"text" && inside(slice.as_ptr()));
    let AsBytes(slice) = decode::<AsBytes<&[u8]>>(&bytes).unwrap();
    assert!(slice == b"text" && inside(slice.as_ptr()));
}

#[test]
fn bytes_in_one_copy_look_like_a_vector() {
    for length in [0, 1, 127, 128, 70_000] {
        let vector: Vec<u8> = (0..length).map(|position| position as u8).collect();
        let bytes = encoded(&vector);
        assert_eq!(encoded(&AsBytes(&vector)), bytes);
        assert_eq!(encoded(&AsBytes(vector.clone())), bytes);
        assert_eq!(decode_bytes(&bytes).unwrap(), vector);
        assert_eq!(decode::<AsBytes<Vec<u8>>>(&bytes).unwrap(), AsBytes(vector));
    }
    assert_eq!(encoded(&CowStr("text".into())), encoded("text"));
}

#[test]
fn a_nested_bomb_fails_on_a_small_stack() {
    let run = || {
        let deep = "the value is nested deeper than 128 levels";
        // Each level of `Branch` is the variant's index, of `Many` index and length, of `Chain` a
        // present option; `Wrapped` takes no byte at all.
        assert_eq!(refused::<Tree>(&vec![1; 100_000]), deep);
        assert_eq!(refused::<Tree>(&[2, 1].repeat(50_000)), deep);
        assert_eq!(refused::<Chain>(&vec![1; 100_000]), deep);
        assert_eq!(refused::<Wrapped>(&[]), deep);
    };
    std::thread::Builder::new().stack_size(256 * 1024).spawn(run).unwrap().join().unwrap();
}

#[test]
fn the_encoder_refuses_exactly_what_the_decoder_would() {
    let deepest = encoded(&nested(MAX_DEPTH));
    assert_eq!(decode::<Tree>(&deepest).unwrap(), nested(MAX_DEPTH));
    let mut buffer = Vec::new();
    let error = encode(&nested(MAX_DEPTH + 1), &mut buffer).unwrap_err();
    assert_eq!(error.to_string(), "the value is nested deeper than 128 levels");
    assert_eq!(refused::<Tree>(&postcard::to_allocvec(&nested(MAX_DEPTH + 1)).unwrap()), {
        error.to_string()
    });

    // The length of 1,040 takes two bytes, which pay for 16 elements beyond those that are free.
    let most = ELEMENT_BUDGET_BASE + 2 * ELEMENT_BUDGET_PER_BYTE;
    assert_eq!(decode::<Vec<()>>(&encoded(&vec![(); most])).unwrap().len(), most);
    let error = encode(&vec![(); most + 1], &mut buffer).unwrap_err();
    assert_eq!(error.to_string(), "1041 elements in 2 bytes are more than a peer accepts");
    assert!(buffer.is_empty());
}

#[test]
fn breadth_is_not_depth() {
    let wide = Tree::Many((0..1000).map(|_| nested(2)).collect());
    assert_eq!(decode::<Tree>(&encoded(&wide)).unwrap(), wide);
    let wide = vec![Some(vec![(Money(1), Kind::Gift("x".into()))]); 1000];
    round_trip(wide);
}

#[test]
fn four_thousand_million_empty_elements_are_refused_at_once() {
    let mut bytes = Vec::new();
    encode(&(1u64 << 32), &mut bytes).unwrap();
    let reason = "a length of 4294967296 is declared and 0 bytes are left";
    assert_eq!(refused::<Vec<()>>(&bytes), reason);
    assert_eq!(refused::<HashMap<(), ()>>(&bytes), reason);
    // The budget is for the whole payload: many small promises add up.
    let each = encoded(&vec![(); 1000]);
    let many: Vec<u8> = [encoded(&100u64), each.repeat(100)].concat();
    assert!(refused::<Vec<Vec<()>>>(&many).starts_with("a length of 1000 is declared"));
}

#[test]
fn a_length_beyond_the_bytes_is_a_lie() {
    let reason = "a length of 5 is declared and 3 bytes are left";
    assert_eq!(refused::<Vec<u8>>(&[5, 1, 2, 3]), reason);
    assert_eq!(refused::<BTreeMap<u8, ()>>(&[5, 1, 2, 3]), reason);
    let ends = "the bytes end in the middle of a value";
    assert_eq!(refused::<Vec<u16>>(&[2, 0x80, 0x81]), ends);
    assert_eq!(refused::<&str>(&[4, b'a', b'b', b'c']), ends);
    assert_eq!(refused::<String>(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, b'a']), ends);
    assert_eq!(decode_bytes(&[4, 1, 2, 3]).unwrap_err().to_string(), ends);
    assert_eq!(refused::<u64>(&[]), ends);
}

#[test]
fn nothing_is_reserved_for_a_length_that_is_a_lie() {
    #[derive(Debug)]
    struct Hints;
    impl<'de> Deserialize<'de> for Hints {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hints, D::Error> {
            struct Asks;
            impl<'de> Visitor<'de> for Asks {
                type Value = Hints;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a sequence")
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(
                    self,
                    sequence: A,
                ) -> Result<Hints, A::Error> {
                    let hint = sequence.size_hint();
                    Err(serde::de::Error::custom(format_args!("hint {hint:?}")))
                }
            }
            deserializer.deserialize_seq(Asks)
        }
    }
    assert_eq!(refused::<Hints>(&[3, 1, 2, 3]), "hint Some(3)");
    assert_eq!(refused::<Hints>(&[4, 1, 2, 3]), "hint Some(0)");
}

#[test]
fn bytes_that_belong_to_no_value_are_refused() {
    assert_eq!(refused::<u8>(&[1, 2]), "1 bytes are left over");
    assert_eq!(refused::<()>(&[0]), "1 bytes are left over");
    assert_eq!(decode_bytes(&[1, 2, 3]).unwrap_err().to_string(), "1 bytes are left over");
}

#[test]
fn a_reader_that_stops_early_does_not_shift_what_follows() {
    #[derive(Debug)]
    struct First;
    impl<'de> Deserialize<'de> for First {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<First, D::Error> {
            struct TakesOne;
            impl<'de> Visitor<'de> for TakesOne {
                type Value = First;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a sequence")
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(
                    self,
                    mut sequence: A,
                ) -> Result<First, A::Error> {
                    sequence.next_element::<u8>().map(|_| First)
                }
            }
            deserializer.deserialize_seq(TakesOne)
        }
    }
    assert!(decode::<(First, u8)>(&[1, 7, 8]).is_ok());
    assert_eq!(refused::<(First, u8)>(&[2, 7, 8]), "1 elements are left over");
}

#[test]
fn the_users_own_text_survives() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "u8")]
    struct Even;
    impl TryFrom<u8> for Even {
        type Error = String;
        fn try_from(number: u8) -> Result<Even, String> {
            if number.is_multiple_of(2) { Ok(Even) } else { Err(format!("{number} is odd")) }
        }
    }
    assert!(decode::<Vec<Option<Even>>>(&[1, 1, 2]).is_ok());
    assert_eq!(refused::<Even>(&[3]), "3 is odd");
    assert_eq!(refused::<Vec<Option<Even>>>(&[1, 1, 3]), "3 is odd");
    assert_eq!(refused::<BTreeMap<u8, (u8, Even)>>(&[1, 0, 0, 5]), "5 is odd");
    assert_eq!(
        refused::<Kind>(&[9]),
        "invalid value: integer `9`, expected variant index 0 <= i < 4"
    );
}

#[test]
fn malformed_values_say_what_is_wrong() {
    assert_eq!(refused::<bool>(&[2]), "a bool is neither 0 nor 1");
    assert_eq!(refused::<Option<u8>>(&[2]), "an option is neither 0 nor 1");
    assert_eq!(refused::<char>(&[1, 0xff]), "a char is not valid");
    assert_eq!(refused::<&str>(&[1, 0xff]), "a string is not UTF-8");
    assert_eq!(refused::<u16>(&[0xff, 0xff, 0x7f]), "an integer is longer than its type");
}

#[test]
fn types_that_need_a_self_describing_format_are_told_so() {
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Untagged {
        Number(u8),
    }
    let reason = refused::<Untagged>(&[1]);
    assert!(reason.starts_with("the type asks for `deserialize_any`"), "{reason}");
}

#[test]
fn a_display_that_fails_is_an_error() {
    struct Broken;
    impl fmt::Display for Broken {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }
    impl Serialize for Broken {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }
    let error = encode(&Broken, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "the `Display` of a value failed while it was encoded");
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[test]
fn random_bytes_never_panic_and_what_decodes_decodes_again() {
    #[track_caller]
    fn attempt<'de, T: Serialize + Deserialize<'de> + Debug>(bytes: &'de [u8]) -> usize {
        let Ok(value) = decode::<T>(bytes) else { return 0 };
        // Floats need not equal themselves, so the texts are compared.
        let again = encoded(&value);
        let twice = postcard::to_allocvec(&value).unwrap();
        assert_eq!(again, twice);
        assert!(again.len() <= bytes.len());
        1
    }
    let mut random = Random(2);
    let mut decoded = [0; 7];
    for _ in 0..20_000 {
        let length = random.next() % 24;
        let small = random.next().is_multiple_of(2);
        let byte = |number: u64| if small { (number % 5) as u8 } else { number as u8 };
        let bytes: Vec<u8> = (0..length).map(|_| byte(random.next())).collect();
        decoded[0] += attempt::<Order<'_>>(&bytes);
        decoded[1] += attempt::<Tree>(&bytes);
        decoded[2] += attempt::<BTreeMap<String, Vec<Option<Money>>>>(&bytes);
        decoded[3] += attempt::<(u64, Kind, &str, i32)>(&bytes);
        decoded[4] += attempt::<Vec<(u16, [Option<bool>; 2], f32)>>(&bytes);
        decoded[5] += attempt::<Vec<HashSet<()>>>(&bytes);
        decoded[6] += decode_bytes(&bytes).is_ok() as usize;
    }
    assert!(decoded.iter().all(|&count| count > 10), "{decoded:?} reach hardly any decoder");
}
