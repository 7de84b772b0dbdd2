//! The smallest guest that can prove something: real-mode code on nothing but the firmware.
//!
//! It counts, for ever. Each number goes to one of the places on its disk and to one of the pages of
//! its memory, in turn; and before a place on the disk gets its next number, the guest reads it and
//! compares it with what it wrote there last. So:
//!
//! * memory is that of one moment exactly if every page has the last number that the counter gave
//!   it ([`moment`]);
//! * memory and disk are of the same moment, and no layer of the disk was lost, exactly if a guest
//!   that goes on from them counts a round further.

/// The segment of its data, and where in it the guest keeps what.
const DATA: usize = 0x3_0000;
const COUNTER: usize = DATA;
const FAILURES: usize = DATA + 4;
/// Where the pages begin.
const FIRST: usize = 0x4_0000;
/// How many there are.
const PAGES: u32 = 64;
/// Memory from here on is not used.
pub const USED: usize = FIRST + PAGES as usize * 4096;
/// How many places on the disk there are; each is in a cluster of its own.
const PLACES: u32 = 32;
/// After so many numbers, every page and every place has a new one.
pub const ROUND: u32 = 64;
const _: () = assert!(ROUND >= PAGES && ROUND >= PLACES);

#[rustfmt::skip]
const CODE: &[u8] = &[
    0xB8, 0x00, 0x30,                                     //        mov  ax, DATA >> 4
    0x8E, 0xD8,                                           //        mov  ds, ax
    0x66, 0x31, 0xC0,                                     //        xor  eax, eax
    0x66, 0xA3, 0x00, 0x00,                               //        mov  [counter], eax
    0x66, 0xA3, 0x04, 0x00,                               //        mov  [failures], eax
    // The parameters of the firmware's disk calls: one sector, a buffer in DATA.
    0x66, 0xA3, 0x1C, 0x00,                               //        mov  [sector + 4], eax
    0x66, 0xA3, 0x18, 0x00,                               //        mov  [sector], eax
    0x66, 0xC7, 0x06, 0x10, 0x00, 0x10, 0x00, 0x01, 0x00, //        mov  dword [packet], 0x10010
    0xC7, 0x06, 0x16, 0x00, 0x00, 0x30,                   //        mov  word [segment], DATA >> 4
    0x66, 0xA1, 0x00, 0x00,                               // again: mov  eax, [counter]
    0x66, 0x40,                                           //        inc  eax
    0x66, 0xA3, 0x08, 0x00,                               //        mov  [next], eax
    0x83, 0xE0, 0x1F,                                     //        and  ax, PLACES - 1
    0xC1, 0xE0, 0x07,                                     //        shl  ax, 7
    0xA3, 0x18, 0x00,                                     //        mov  [sector], ax
    0xC7, 0x06, 0x14, 0x00, 0x00, 0x02,                   //        mov  word [buffer], found
    0xB4, 0x42,                                           //        mov  ah, 0x42 ; read
    0xE8, 0x43, 0x00,                                     //        call disk
    0x66, 0xA1, 0x08, 0x00,                               //        mov  eax, [next]
    0x66, 0x83, 0xE8, 0x20,                               //        sub  eax, PLACES
    0x73, 0x03,                                           //        jae  later
    0x66, 0x31, 0xC0,                                     //        xor  eax, eax
    0x66, 0x3B, 0x06, 0x00, 0x02,                         // later: cmp  eax, [found]
    0x75, 0x39,                                           //        jne  fail
    0x66, 0xA1, 0x08, 0x00,                               //        mov  eax, [next]
    0x66, 0xA3, 0x00, 0x04,                               //        mov  [written], eax
    0xC7, 0x06, 0x14, 0x00, 0x00, 0x04,                   //        mov  word [buffer], written
    0xB8, 0x00, 0x43,                                     //        mov  ax, 0x4300 ; write
    0xE8, 0x1B, 0x00,                                     //        call disk
    0x66, 0xA1, 0x08, 0x00,                               //        mov  eax, [next]
    0x88, 0xC7,                                           //        mov  bh, al
    0x81, 0xE3, 0x00, 0x3F,                               //        and  bx, (PAGES - 1) << 8
    0x81, 0xC3, 0x00, 0x40,                               //        add  bx, FIRST >> 4
    0x8E, 0xC3,                                           //        mov  es, bx
    0x26, 0x66, 0xA3, 0x00, 0x00,                         //        mov  es:[0], eax
    0x66, 0xA3, 0x00, 0x00,                               //        mov  [counter], eax
    0xEB, 0x9F,                                           //        jmp  again
    0xB2, 0x80,                                           // disk:  mov  dl, 0x80
    0xBE, 0x10, 0x00,                                     //        mov  si, packet
    0xCD, 0x13,                                           //        int  0x13
    0x72, 0x01,                                           //        jc   fail
    0xC3,                                                 //        ret
    0xFF, 0x06, 0x04, 0x00,                               // fail:  inc  word [failures]
    0xF4,                                                 // stop:  hlt
    0xEB, 0xFD,                                           //        jmp  stop
];

/// The code as the real-mode part of a Linux kernel (its documentation: arch/x86/boot), which is
/// what QEMU can start; the rest of the kernel is never used.
pub fn image() -> Vec<u8> {
    const SECTOR: usize = 512;
    const ENTRY: usize = 0x280;
    let mut image = vec![0; 3 * SECTOR];
    image[0x1F1] = 1; // sectors of the real-mode part behind the first
    image[0x1FE..0x200].copy_from_slice(&[0x55, 0xAA]);
    image[0x200..0x202].copy_from_slice(&[0xEB, (ENTRY - 0x202) as u8]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x0202u16.to_le_bytes());
    image[0x211] = 1; // the rest goes to 1 MiB
    image[ENTRY..ENTRY + CODE.len()].copy_from_slice(CODE);
    image
}

/// The last number, in the guest's memory.
pub fn counter(memory: &[u8]) -> u32 {
    word(memory, COUNTER)
}

/// Whether the guest found something else on its disk than it wrote there.
pub fn has_failed(memory: &[u8]) -> bool {
    word(memory, FAILURES) != 0
}

/// The counter of the one moment that this is the memory of; otherwise what is wrong.
pub fn moment(memory: &[u8]) -> Result<u32, String> {
    let counter = counter(memory);
    if has_failed(memory) {
        return Err(format!("at {counter} the guest found something else on its disk"));
    }
    if counter < ROUND {
        return Err(format!("the guest only counted to {counter}"));
    }
    for page in 0..PAGES {
        let found = word(memory, FIRST + page as usize * 4096);
        let last = counter - (counter + PAGES - page) % PAGES;
        // The page gets a number before the counter does.
        let is_next = found == counter + 1 && found % PAGES == page;
        if found != last && !is_next {
            return Err(format!("page {page} has {found} at {counter}, not {last}"));
        }
    }
    Ok(counter)
}

fn word(memory: &[u8], at: usize) -> u32 {
    let bytes = memory.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}
