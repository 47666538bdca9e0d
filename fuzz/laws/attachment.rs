//! Whatever the bytes are, they are refused, or they are an attachment that is written to the same bytes; and whatever
//! the text is, it is a token or none.

use nudge_wire::{Attachment, parse_endpoint};

pub fn law(data: &[u8]) {
    if let Ok(attachment) = Attachment::decode(data) {
        assert_eq!(attachment.encode(), data);
    }
    if let Some(endpoint) = std::str::from_utf8(data).ok().and_then(parse_endpoint) {
        assert!(endpoint.token().starts_with("@ros2_lv/"));
    }
}
