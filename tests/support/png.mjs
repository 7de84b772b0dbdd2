// What a screenshot shows.

import assert from "node:assert/strict";
import { inflateSync } from "node:zlib";

const HEADER = 8;
/** Of the colour types that PNG has, the two that Chromium writes: RGB and RGBA, eight bits each. */
const CHANNELS = { 2: 3, 6: 4 };

export class Picture {
  /** Decodes a PNG. */
  constructor(png) {
    const parts = [];
    for (let at = HEADER; at < png.length; ) {
      const length = png.readUInt32BE(at);
      const type = png.toString("latin1", at + 4, at + 8);
      const data = png.subarray(at + 8, at + 8 + length);
      if (type === "IHDR") this.#describe(data);
      if (type === "IDAT") parts.push(data);
      at += 12 + length; // Length, type and checksum have four bytes each.
    }
    this.#unfilter(inflateSync(Buffer.concat(parts)));
  }

  #describe(header) {
    this.width = header.readUInt32BE(0);
    this.height = header.readUInt32BE(4);
    const [depth, type, , , interlaced] = header.subarray(8);
    assert.deepEqual([depth, interlaced], [8, 0], "a PNG as Chromium writes them");
    this.channels = CHANNELS[type];
  }

  /** Each line tells how its bytes differ from those to the left and above. */
  #unfilter(raw) {
    const step = this.channels;
    const stride = this.width * step;
    this.bytes = Buffer.alloc(stride * this.height);
    for (let y = 0; y < this.height; y += 1) {
      const filter = raw[y * (stride + 1)];
      for (let x = 0; x < stride; x += 1) {
        const at = y * stride + x;
        const left = x < step ? 0 : this.bytes[at - step];
        const up = y === 0 ? 0 : this.bytes[at - stride];
        const corner = x < step || y === 0 ? 0 : this.bytes[at - stride - step];
        const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
        this.bytes[at] = raw[at + y + 1] + guess;
      }
    }
  }

  /** The colour at a place, as `#rrggbb`. */
  at(x, y) {
    const from = (Math.floor(y) * this.width + Math.floor(x)) * this.channels;
    return `#${this.bytes.toString("hex", from, from + 3)}`;
  }

  /** How many pixels of a rectangle have which colour. */
  colours({ x, y, width, height }) {
    const counts = {};
    for (let line = y; line < y + height; line += 1) {
      for (let column = x; column < x + width; column += 1) {
        const colour = this.at(column, line);
        counts[colour] = (counts[colour] ?? 0) + 1;
      }
    }
    return counts;
  }
}

/** Whichever of the three is next to what they continue as a plane. */
function paeth(left, up, corner) {
  const plane = left + up - corner;
  const [a, b, c] = [left, up, corner].map((value) => Math.abs(plane - value));
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}
