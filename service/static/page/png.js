// Reads the palette PNG that a mask is. A canvas would give colours, and after a browser's protection against
// fingerprints not even those exactly; what is wanted are the class ids in the file.

/** The pixels' palette indices: `{ width, height, labels }`, labels a Uint8Array, row by row. `bytes`: Uint8Array. */
export async function readPalettePng(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const compressed = [];
  let header = null;
  for (let at = 8; at < bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "IHDR") header = { width: view.getUint32(at + 8), height: view.getUint32(at + 12), depth: bytes[at + 16], color: bytes[at + 17], interlaced: bytes[at + 20] };
    if (kind === "IDAT") compressed.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  if (!header || header.color !== 3 || header.interlaced) throw new Error("The mask is no plain palette PNG.");
  const rows = new Blob(compressed).stream().pipeThrough(new DecompressionStream("deflate"));
  const filtered = new Uint8Array(await new Response(rows).arrayBuffer());
  return { width: header.width, height: header.height, labels: unpack(filtered, header) };
}

/** Undo each row's filter (PNG specification, chapter 9), and give every pixel a byte of its own. */
function unpack(filtered, { width, height, depth }) {
  const stride = Math.ceil((width * depth) / 8);
  const labels = new Uint8Array(width * height);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y++) {
    const filter = filtered[y * (stride + 1)];
    const row = filtered.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1));
    if (filter) unfilter(filter, row, above);
    if (depth === 8) {
      labels.set(row, y * width);
    } else {
      const perByte = 8 / depth;
      const most = (1 << depth) - 1;
      for (let x = 0; x < width; x++) {
        labels[y * width + x] = (row[(x / perByte) | 0] >> (8 - depth - (x % perByte) * depth)) & most;
      }
    }
    above = row;
  }
  return labels;
}

function unfilter(filter, row, above) {
  for (let i = 0; i < row.length; i++) {
    const left = i ? row[i - 1] : 0;
    const up = above[i];
    const corner = i ? above[i - 1] : 0;
    row[i] += filter === 1 ? left : filter === 2 ? up : filter === 3 ? (left + up) >> 1 : paeth(left, up, corner);
  }
}

function paeth(left, up, corner) {
  const [toLeft, toUp, toCorner] = [up - corner, left - corner, left + up - 2 * corner].map(Math.abs);
  return toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner;
}
