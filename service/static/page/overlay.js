// A picture with the classes of its pixels over it, on a canvas.

const LONGEST_SHOWN = 1600; // pixels: what is more no screen shows, and a phone has no memory for
const LARGEST_SAVED = 16_000_000; // pixels: more than that some browsers give no canvas for
const FADED = 0.15; // of their opacity is left to the other classes while one is shown

export class Overlay {
  #canvas;
  #picture; // an ImageBitmap, or null where the browser cannot show what the service could read
  #mask; // { width, height, labels }
  #colors; // of each class, by id: [red, green, blue]
  #tint; // a canvas of the shown size with the colours of the mask
  #crosshair = null;
  opacity = 0.55;
  shownClass = null;

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** Show a picture, and `mask` over it as soon as there is one. `classes`: of the manifest. */
  async set(picture, mask, classes) {
    if (this.#picture && this.#picture !== picture) this.#picture.close();
    const { width, height } = mask ?? picture ?? { width: 4, height: 3 };
    const scale = Math.min(1, LONGEST_SHOWN / Math.max(width, height));
    this.#picture = picture;
    this.#mask = mask;
    this.#colors = (classes ?? []).map(({ color }) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
    this.#canvas.width = Math.max(1, Math.round(width * scale));
    this.#canvas.height = Math.max(1, Math.round(height * scale));
    this.#canvas.style.maxWidth = `calc(72vh * ${width / height})`; // as high as fits, and no wider than the picture
    this.#crosshair = this.shownClass = this.#tint = null;
    this.draw();
  }

  /** Let one class stand out (its id), or none (null). */
  showClass(id) {
    if (id === this.shownClass) return;
    this.shownClass = id;
    this.#tint = null;
    this.draw();
  }

  /** Mark a place; `at` is { x, y }, 0…1 of the picture, or null. */
  mark(at) {
    this.#crosshair = at;
    this.draw();
  }

  /** The class id at a place, 0…1 of the picture each way; null outside of it or without a mask. */
  classAt(x, y) {
    if (!this.#mask || x < 0 || y < 0 || x >= 1 || y >= 1) return null;
    const { width, height, labels } = this.#mask;
    return labels[Math.floor(y * height) * width + Math.floor(x * width)];
  }

  draw() {
    const { width, height } = this.#canvas;
    const context = this.#canvas.getContext("2d");
    this.#tint ??= this.#mask && this.#painted(width, height);
    this.#compose(context, width, height, this.#tint);
    if (this.#crosshair) drawCrosshair(context, this.#crosshair.x * width, this.#crosshair.y * height);
  }

  /** The picture with its overlay as it is shown now, at its own size where a canvas may be that large, as a PNG. */
  async saved() {
    const { width, height } = this.#mask;
    const scale = Math.min(1, Math.sqrt(LARGEST_SAVED / (width * height)));
    const canvas = sized(Math.round(width * scale), Math.round(height * scale));
    this.#compose(canvas.getContext("2d"), canvas.width, canvas.height, this.#painted(canvas.width, canvas.height));
    return new Promise((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture is too large for this browser to save."))), "image/png");
    });
  }

  #compose(context, width, height, tint) {
    context.globalAlpha = 1;
    context.fillStyle = "#fff"; // what the network sees where a picture is transparent
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    if (this.#picture) context.drawImage(this.#picture, 0, 0, width, height);
    context.globalAlpha = this.opacity;
    if (tint) context.drawImage(tint, 0, 0);
    context.globalAlpha = 1;
  }

  /** The mask in its colours, by nearest pixel. */
  #painted(width, height) {
    const canvas = sized(width, height);
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const colors = this.#colors.map(([red, green, blue], id) => {
      const alpha = this.shownClass === null || this.shownClass === id ? 255 : Math.round(255 * FADED);
      return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0; // little-endian, as every browser's machine is
    });
    const { labels, width: full, height: tall } = this.#mask;
    const columns = Uint32Array.from({ length: width }, (_, x) => Math.floor(((x + 0.5) * full) / width));
    for (let y = 0, at = 0; y < height; y++) {
      const row = Math.floor(((y + 0.5) * tall) / height) * full;
      for (let x = 0; x < width; x++) pixels[at++] = colors[labels[row + columns[x]]];
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }
}

function sized(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

function drawCrosshair(context, x, y) {
  const arm = Math.max(10, context.canvas.width / 45);
  for (const [color, width] of [["#000", 5], ["#fff", 2]]) {
    context.strokeStyle = color;
    context.lineWidth = (width * context.canvas.width) / 900;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + (dx * arm) / 3, y + (dy * arm) / 3);
      context.lineTo(x + dx * arm, y + dy * arm);
    }
    context.stroke();
  }
}
