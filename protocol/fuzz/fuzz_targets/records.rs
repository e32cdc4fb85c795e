//! Any record batch. Length, magic and CRC are corrected first, or nothing would get past them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_protocol::RecordBatchView;
use ottla_protocol::record::{RecordLimits, Records};

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    if bytes.len() >= 61 {
        let len = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&len.to_be_bytes());
        bytes[16] = 2;
    }
    let Ok(view) = RecordBatchView::parse(&bytes) else {
        return;
    };
    let _ = (
        view.crc_is_valid(),
        view.last_offset(),
        view.header().last_sequence(),
    );
    let limits = RecordLimits {
        plain_bytes: 1 << 20,
        ratio: 16,
    };
    let Ok(mut records) = Records::open(view, limits) else {
        return;
    };
    let mut count = 0;
    while let Some(record) = records.next_ref() {
        if let Ok(record) = record {
            count += 1;
            let _ = (record.key(), record.value(), record.headers().count());
        }
    }
    assert!(count <= view.header().record_count);
});
