// The drawing pad: strokes by mouse, pen, finger or keyboard, or a photograph in their place.

const WIDTH = 0.075; // of a stroke, as a share of the pad: about what MNIST's writers used
const STEP = 1 / 24; // of the pen that keys move
const SENT = 224; // side in pixels of the picture that is sent: eight times what the network sees

export class Pad {
  #canvas;
  #context;
  #strokes = [];
  #current = null;
  #pointer = null; // the one that draws: another finger, or the palm beside a pen, draws nothing
  #pen = { x: 0.5, y: 0.5, down: false, shown: false };
  #tools;

  /** `tools` are what belongs to the pad: the `hint` where nothing is seen, and the buttons `undo` and `clear`. */
  constructor(canvas, tools) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#tools = tools;
    this.onChange = () => {}; // called with true when there is something else to look at, with false when the pen is lifted
    this.photo = null; // the file that was given, and its bitmap where the browser can show it
    this.box = null; // where the service found the digit in the photograph, in its pixels
    this.subject = 0; // another number for every other thing that is looked at
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) canvas.addEventListener(end, (event) => this.#lift(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#movePen({ down: false, shown: false }));
    tools.clear.addEventListener("click", () => (this.clear(), canvas.focus()));
    tools.undo.addEventListener("click", () => this.undo());
    tools.hint.hidden = false; // now there is something to draw on
    new ResizeObserver(() => this.#fit()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  get empty() {
    return !this.photo && this.#strokes.length === 0;
  }

  /** Whether the pen is down, and the stroke not at its end. */
  get drawing() {
    return this.#current !== null;
  }

  /** The longer side of what is drawn, without the pen's width, as a share of the pad. */
  get extent() {
    let [left, top, right, bottom] = [1, 1, 0, 0];
    for (const { x, y } of this.#strokes.flat()) {
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
    }
    return Math.max(right - left, bottom - top);
  }

  /** Take everything away. */
  clear() {
    this.#strokes = [];
    this.#current = null;
    this.#pen.down = false;
    this.photo?.bitmap?.close();
    this.photo = this.box = null;
    this.#change(true);
  }

  /** Take the last stroke back, or the photograph. */
  undo() {
    if (this.photo) return this.clear();
    this.#current = null;
    this.#pen.down = false;
    this.#strokes.pop();
    this.#change(this.#strokes.length === 0);
  }

  /** Put a photograph on the pad. */
  async show(file) {
    this.clear();
    const { subject } = this;
    const bitmap = await createImageBitmap(file).catch(() => null);
    if (subject !== this.subject || !this.empty) return void bitmap?.close(); // large ones take a while
    this.photo = { file, bitmap };
    this.#change(true);
  }

  /** What the service is sent: the photograph as it is, or the strokes, dark on light. */
  async picture() {
    if (this.photo) return this.photo.file;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SENT;
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SENT, SENT);
    this.#ink(context, SENT, "#000");
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  draw() {
    const { width: side } = this.#canvas;
    const style = getComputedStyle(this.#canvas);
    const accent = style.getPropertyValue("--accent");
    const context = this.#context;
    context.clearRect(0, 0, side, side);
    if (this.photo?.bitmap) this.#drawPhoto(context, side, accent);
    this.#ink(context, side, style.color);
    if (this.#pen.shown) this.#drawPen(context, side, accent);
  }

  #ink(context, side, color) {
    context.strokeStyle = context.fillStyle = color;
    context.lineWidth = WIDTH * side;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.#strokes) {
      const points = stroke.map(({ x, y }) => [x * side, y * side]);
      context.beginPath();
      context.moveTo(...points[0]);
      // Through the middles of the points, which a hand's tremor moves less than the points themselves.
      for (let i = 1; i < points.length - 1; i++) {
        const [x, y] = points[i];
        context.quadraticCurveTo(x, y, (x + points[i + 1][0]) / 2, (y + points[i + 1][1]) / 2);
      }
      const [x, y] = points.at(-1);
      context.lineTo(x, y + 0.01); // a line of no length at all would leave no dot
      context.stroke();
    }
  }

  #drawPhoto(context, side, accent) {
    const { bitmap } = this.photo;
    const scale = side / Math.max(bitmap.width, bitmap.height);
    const left = (side - bitmap.width * scale) / 2;
    const top = (side - bitmap.height * scale) / 2;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, left, top, bitmap.width * scale, bitmap.height * scale);
    if (!this.box) return;
    const [x0, y0, x1, y1] = this.box.map((each) => each * scale);
    context.strokeStyle = accent;
    context.lineWidth = Math.max(2, side / 160);
    context.strokeRect(left + x0, top + y0, x1 - x0, y1 - y0);
  }

  #drawPen(context, side, accent) {
    const { x, y, down } = this.#pen;
    context.strokeStyle = context.fillStyle = accent;
    context.lineWidth = Math.max(2, side / 200);
    context.beginPath();
    context.arc(x * side, y * side, (WIDTH / 2) * side, 0, 2 * Math.PI);
    if (down) context.fill();
    else context.stroke();
  }

  #press(event) {
    if (!event.isPrimary || event.button !== 0 || this.#pointer !== null) return;
    this.#pointer = event.pointerId;
    if (this.photo) this.clear();
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pen.shown = this.#pen.down = false;
    this.#begin(this.#at(event));
  }

  #move(event) {
    if (!this.#current || this.#pen.down || event.pointerId !== this.#pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.#current.push(this.#at(each));
    this.#change(false);
  }

  #lift(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    if (!this.#current || this.#pen.down) return;
    this.#end();
  }

  #key(event) {
    if (event.altKey || event.metaKey || (event.ctrlKey && event.key !== "z")) return;
    const step = event.shiftKey ? 3 * STEP : STEP;
    const { x, y, down } = this.#pen;
    const actions = {
      ArrowLeft: () => this.#movePen({ x: x - step, shown: true }),
      ArrowRight: () => this.#movePen({ x: x + step, shown: true }),
      ArrowUp: () => this.#movePen({ y: y - step, shown: true }),
      ArrowDown: () => this.#movePen({ y: y + step, shown: true }),
      " ": () => this.#movePen({ down: !down, shown: true }),
      Enter: () => this.#movePen({ down: !down, shown: true }),
      Escape: () => this.#movePen({ down: false }),
      Backspace: () => this.undo(),
      Delete: () => this.clear(),
      z: event.ctrlKey ? () => this.undo() : undefined,
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }

  #movePen(changes) {
    const pen = { ...this.#pen, ...changes };
    pen.x = Math.min(Math.max(pen.x, 0.08), 0.92);
    pen.y = Math.min(Math.max(pen.y, 0.08), 0.92);
    const landed = pen.down && !this.#pen.down;
    const moved = pen.x !== this.#pen.x || pen.y !== this.#pen.y;
    const lifted = !pen.down && this.#pen.down;
    this.#pen = pen;
    if (lifted) {
      this.#end();
    } else if (landed) {
      if (this.photo) this.clear();
      this.#pen.down = true;
      this.#begin({ x: pen.x, y: pen.y });
    } else if (pen.down && moved) {
      this.#current.push({ x: pen.x, y: pen.y });
      this.#change(false);
    } else {
      this.draw();
    }
  }

  #begin(point) {
    this.#current = [point];
    this.#strokes.push(this.#current);
    this.#change(false);
  }

  #end() {
    this.#current = null;
    this.draw();
    this.onChange(false);
  }

  #change(anotherSubject) {
    if (anotherSubject) this.subject++;
    this.#tools.hint.hidden = this.#strokes.length > 0 || Boolean(this.photo?.bitmap);
    this.#tools.clear.disabled = this.#tools.undo.disabled = this.empty;
    this.draw();
    this.onChange(true);
  }

  #at(event) {
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    return { x: (event.clientX - left) / width, y: (event.clientY - top) / height };
  }

  #fit() {
    const side = Math.round(this.#canvas.clientWidth * devicePixelRatio);
    if (side === this.#canvas.width && side === this.#canvas.height) return;
    this.#canvas.width = this.#canvas.height = side;
    this.draw();
  }
}
