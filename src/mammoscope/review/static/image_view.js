// @ts-check
/** One mammogram on the screen: 16-bit tiles windowed on the graphics card, boxes, and the mouse. */

import {
  DataTileSource, DragBox, DragPan, Feature, Fill, ImageLayer, ImageStaticSource, LineString, Map as OlMap, MouseWheelZoom, Point,
  PointerInteraction, Projection, Stroke, Style, Text, TileGrid, TileImageSource, TileLayer, VectorLayer, VectorSource, View, WebGLTileLayer, fromExtent,
} from './vendor/openlayers.js';
import {Magnifier} from './magnifier.js';

/** @typedef {import('./requests.js').Mark} Mark */
/** @typedef {{name: string, values: number[], greys: number[]}} Curve */
/** @typedef {{digest: string, spacing_mm: number[]|null, tile: number, rows: number, columns: number, levels: number[][], scale: number,
 *   offset: number, curves: Curve[], padding: number[]|null, mirrored: boolean, upside_down: boolean, breast: number[][]}} Display */
/** @typedef {{id: string, box: number[], colour: string, dashed: boolean, text: string, fixed: boolean}} Shown */
/** @typedef {{rows: number, columns: number}} Size */
/** @typedef {{low: number, high: number, inverted: boolean, curve: number}} Window */

const EDGE_PX = 8;
const SMALLEST_BOX_PX = 3;
const MOST_LABELLED = 100;
const RETRY_MS = 2000;
/** A window that follows another no later is one drag. */
const DRAG_MS = 1500;
/** The picture is drawn in full when no window came for so long; later where windows come more slowly than that. */
const REST_MS = 250;

export const hasWebGL = (() => {
  if (new URLSearchParams(location.search).get('webgl') === 'off') return false;
  const gl = document.createElement('canvas').getContext('webgl2') ?? document.createElement('canvas').getContext('webgl');
  return Boolean(gl && gl.getExtension && (gl instanceof WebGL2RenderingContext || gl.getExtension('OES_texture_float')));
})();

/** Whether the processor plays the graphics card: then a frame costs what its pixels cost. */
const isSoftware = (() => {
  const gl = document.createElement('canvas').getContext('webgl2');
  const told = gl?.getExtension('WEBGL_debug_renderer_info');
  return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(String(told && gl ? gl.getParameter(told.UNMASKED_RENDERER_WEBGL) : ''));
})();

/** A view of one image, in an element of its own. */
export class ImageView {
  /**
   * @param {HTMLElement} element
   * @param {{id: number, name: string, laterality: string|null}} image
   * @param {Display} display
   * @param {{chosen: () => void, picked: (mark: string|null) => void, moved: (mark: string, box: number[]) => void,
   *   drawn: (box: number[]) => void, windowed: (dx: number, dy: number) => void, value: (text: string) => void,
   *   over: (mark: string|null) => void, lost: (status: number, sentence: string) => void}} told
   * @param {number} resolution pixels of the image on one of the screen
   */
  constructor(element, image, display, told, resolution) {
    this.image = image;
    this.display = display;
    this.told = told;
    /** @type {string|null} */
    this.selected = null;
    /** Boxes that are lit because their partner on the other view is chosen or under the pointer. @type {Set<string>} */
    this.lit = new Set();
    this.editable = true;
    /** @type {Magnifier|null} */
    this.magnifier = null;
    /** @type {number[]} */
    this.pointer = [];
    this.lastWindowed = -DRAG_MS;
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.rest = undefined;
    /** Whether the pointer is over this view. */
    this.inside = false;
    this.lastMeasure = '';
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.later = undefined;
    /** @type {string|null} */
    this.under = null;
    const {rows, columns, levels} = display;
    this.extent = [0, -rows, columns, 0];
    const projection = new Projection({code: `image-${image.id}`, units: 'pixels', extent: this.extent});
    this.grid = new TileGrid({
      extent: this.extent, origin: [0, 0], tileSize: display.tile, resolutions: levels.map((_, level) => 2 ** (levels.length - 1 - level)),
    });
    this.projection = projection;
    this.window = /** @type {Window} */ ({...windowOf(display, 0), inverted: false, curve: 0});
    /** What tiles come from: stored values for the card, or pictures that the server windows. @type {DataTileSource|TileImageSource} */
    this.source = hasWebGL ? this.valueSource() : this.pictureSource();
    this.layer = this.newLayer();
    this.boxes = new VectorSource({wrapX: false});
    this.lines = new VectorSource({wrapX: false});
    /** @type {ImageLayer<ImageStaticSource>} */
    this.heat = new ImageLayer({visible: false});
    const map = new OlMap({
      target: element,
      controls: [],
      interactions: [],
      pixelRatio: Math.min(window.devicePixelRatio, 2),
      layers: [
        this.layer, this.heat, new VectorLayer({source: this.boxes, style: (feature) => this.styleOf(feature), updateWhileInteracting: true}),
        new VectorLayer({source: this.lines, style: (feature) => this.styleOf(feature)}),
      ],
      view: new View({
        projection, center: this.hangingCentre(element.clientWidth, resolution), resolution, minResolution: 1 / 16, maxResolution: 64, enableRotation: false,
        smoothExtentConstraint: false, showFullExtent: true, constrainOnlyCenter: true, extent: this.extent,
      }),
    });
    this.map = map;
    map.addInteraction(new DragPan({condition: (/** @type {any} */ event) => event.originalEvent.button === 0}));
    map.addInteraction(new MouseWheelZoom({constrainResolution: false}));
    map.addInteraction(this.windowDrag());
    map.addInteraction(this.magnifyWhileHeld());
    map.addInteraction(this.boxEdit());
    this.drawing = new DragBox({className: 'ol-box', condition: (/** @type {any} */ event) => event.originalEvent.button === 0});
    this.drawing.setActive(false);
    this.drawing.on('boxend', () => {
      const box = this.toFile(this.drawing.getGeometry().getExtent());
      if (box[2] - box[0] >= SMALLEST_BOX_PX && box[3] - box[1] >= SMALLEST_BOX_PX) told.drawn(box);
    });
    map.addInteraction(this.drawing);
    this.measuring = this.measureDrag();
    this.measuring.setActive(false);
    map.addInteraction(this.measuring);
    element.addEventListener('contextmenu', (event) => event.preventDefault());
    element.addEventListener('pointerdown', () => told.chosen(), true);
    map.on('postrender', () => {
      const at = this.magnifier && this.pointer.length ? map.getCoordinateFromPixel(this.pointer) : null;
      if (at) this.magnifier?.at(at, this.pointer);
    });
    element.addEventListener('pointerleave', () => {
      this.inside = false;
      this.tellOver(null);
    });
    map.on('pointermove', (/** @type {any} */ event) => {
      this.pointer = event.pixel;
      this.inside = true;
      this.tellValue(event);
      this.magnifier?.at(event.coordinate, event.pixel);
      if (!event.dragging) this.tellOver(this.featureAt(event.pixel)?.getId() ?? null);
    });
  }

  /** The card does the windowing: tiles stay as stored, and a window is two numbers. */
  valueSource() {
    const {display} = this;
    return new DataTileSource({
      bandCount: 1, interpolate: true, wrapX: false, transition: 0, tileGrid: this.grid, projection: this.projection, tileSize: display.tile,
      loader: async (/** @type {number} */ level, /** @type {number} */ column, /** @type {number} */ row, /** @type {{signal?: AbortSignal}} */ how) => {
        return valuesOf(await this.tileBytes(this.tileUrl(level, column, row), how?.signal));
      },
    });
  }

  /** Asked for again while the server cannot be reached; whoever reads is told why a part of the image is missing.
   * @param {string} url @param {AbortSignal|undefined} signal */
  async tileBytes(url, signal) {
    for (;;) {
      const response = await fetch(url, {credentials: 'same-origin', signal}).catch(() => null);
      if (response?.ok) return new Uint8Array(await response.arrayBuffer());
      if (signal?.aborted) throw new Error('no longer needed');
      if (response && response.status < 500) {
        const {detail} = await response.json().catch(() => ({}));
        this.told.lost(response.status, detail ?? `A part of ${this.image.name} cannot be loaded: load the study again.`);
        throw new Error(`tile ${response.status}`);
      }
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }

  /** Without WebGL the server windows, and each window is another picture. */
  pictureSource() {
    return new TileImageSource({
      interpolate: true, wrapX: false, transition: 0, tileGrid: this.grid, projection: this.projection, tileUrlFunction: (/** @type {number[]} */ at) => this.pictureUrl(at),
    });
  }

  /** A layer of the image for a map of this view. */
  newLayer() {
    const {source, extent} = this;
    if (source instanceof DataTileSource) return new WebGLTileLayer({source, extent, preload: Infinity, style: this.cardStyle(), cacheSize: 256});
    return new TileLayer({source, extent, preload: Infinity});
  }

  cardStyle() {
    const {curves, padding} = this.display;
    const {values, greys} = curves[this.window.curve];
    const [first, last] = [values[0], values[values.length - 1]];
    const value = ['band', 1];
    const width = ['-', ['var', 'high'], ['var', 'low']];
    const moved = ['+', ['*', ['/', ['-', value, ['var', 'low']], width], last - first], first];
    // A window of two corners is a straight line, which the card works out without looking for the corner.
    const line = ['clamp', ['/', ['-', value, ['var', 'low']], width], 0, 1];
    const straight = values.length === 2 && greys[0] === 0 && greys[1] === 1;
    const curve = straight ? line : ['interpolate', ['linear'], moved, ...values.flatMap((at, place) => [at, greys[place]])];
    const grey = ['abs', ['-', curve, ['var', 'inverted']]];
    const shown = padding ? ['case', ['between', value, padding[0] - 0.5, padding[1] + 0.5], 0, grey] : grey;
    const {low, high, inverted} = this.window;
    return {variables: {low, high, inverted: Number(inverted)}, color: ['array', shown, shown, shown, 1]};
  }

  /** @param {number} level @param {number} column @param {number} row */
  tileUrl(level, column, row) {
    return `/api/images/${this.image.id}/${this.display.digest}/${level}/${column}/${row}`;
  }

  /** @param {number[]} at */
  pictureUrl([level, column, row]) {
    const {low, high, inverted, curve} = this.window;
    return `${this.tileUrl(level, column, row)}/picture?low=${low.toFixed(2)}&high=${high.toFixed(2)}&inverted=${inverted}&curve=${curve}`;
  }

  /** @param {Window} wanted */
  setWindow(wanted) {
    const newCurve = wanted.curve !== this.window.curve;
    this.window = wanted;
    this.drawQuickly();
    const {source} = this;
    if (source instanceof TileImageSource) {
      clearTimeout(this.later);
      this.later = setTimeout(() => source.setTileUrlFunction((/** @type {number[]} */ at) => this.pictureUrl(at), this.pictureUrl([0, 0, 0])), 120);
    }
    for (const layer of [this.layer, this.magnifier?.layer]) {
      if (!(layer instanceof WebGLTileLayer)) continue;
      if (newCurve) layer.setStyle(this.cardStyle());
      else layer.updateStyleVariables({low: wanted.low, high: wanted.high, inverted: Number(wanted.inverted)});
    }
  }

  /** Where no graphics card draws: half the pixels across and down while a window is dragged, all of them when it rests. */
  drawQuickly() {
    const now = performance.now();
    const pause = now - this.lastWindowed;
    const isDrag = pause < DRAG_MS;
    const rest = Math.max(REST_MS, 2 * pause);
    this.lastWindowed = now;
    if (!isSoftware || !isDrag || !hasWebGL) return;
    clearTimeout(this.rest);
    this.drawWith(0.5);
    this.map.once('postrender', () => {
      clearTimeout(this.rest);
      this.rest = setTimeout(() => this.drawWith(1), rest);
    });
  }

  /** @param {number} share of the screen's pixels, across and down */
  drawWith(share) {
    const map = /** @type {any} */ (this.map); // OpenLayers has no way to change it that it tells of
    const ratio = Math.min(window.devicePixelRatio, 2) * share;
    if (map.pixelRatio_ === ratio) return;
    map.pixelRatio_ = ratio;
    this.map.render();
  }

  /** The whole image, its chest wall at the edge where it hangs. @param {number} [resolution] */
  fit(resolution) {
    this.map.updateSize();
    const [width] = this.map.getSize() ?? [1, 1];
    const wanted = resolution ?? this.fittingResolution();
    const view = this.map.getView();
    view.setResolution(wanted);
    view.setCenter(this.hangingCentre(width, wanted));
  }

  /** @param {number} width of the element @param {number} resolution */
  hangingCentre(width, resolution) {
    const {rows, columns} = this.display;
    const room = (width * resolution - columns) / 2;
    const shift = {R: -room, L: room}[this.image.laterality ?? ''] ?? 0;
    return [columns / 2 + shift, -rows / 2];
  }

  fittingResolution() {
    this.map.updateSize();
    const [width, height] = this.map.getSize() ?? [1, 1];
    return fitting(this.display, width, height);
  }

  /** One pixel of the image on one of the screen: around a box, the pointer, or the middle of the breast.
   * @param {number[]} [box] in the file's pixels */
  nativePixels(box) {
    const [x0, y0, x1, y1] = box ? this.toScreen(box) : [];
    const middle = box ? [(x0 + x1) / 2, (y0 + y1) / 2] : this.beginning();
    this.map.getView().setResolution(1 / Math.min(window.devicePixelRatio, 2));
    this.map.getView().setCenter(middle);
  }

  /** The runs of breast that are seen, as [y, x0, x1] of the map; all of them where none is seen. */
  breastSeen() {
    const [left, lower, right, upper] = this.seen();
    const runs = this.display.breast.map(([y, x0, x1]) => [-y, x0, x1]);
    const seen = runs.filter(([y]) => y > lower && y < upper).map(([y, x0, x1]) => [y, Math.max(x0, left), Math.min(x1, right)]).filter(([, x0, x1]) => x1 > x0);
    return seen.length ? seen : runs;
  }

  /** @param {number[]} at */
  isOnBreast([x, y]) {
    const {breast} = this.display;
    if (!breast.length) return x >= 0 && x <= this.extent[2] && y <= 0 && y >= this.extent[1];
    const [, x0, x1] = breast.reduce((one, other) => (Math.abs(other[0] + y) < Math.abs(one[0] + y) ? other : one));
    const step = breast.length > 1 ? breast[1][0] - breast[0][0] : this.extent[2];
    return x >= x0 && x <= x1 && -y >= breast[0][0] - step && -y <= breast[breast.length - 1][0] + step;
  }

  /** What is seen: left, lower, right, upper edge. */
  seen() {
    return this.map.getView().calculateExtent(this.map.getSize());
  }

  /** Where what is begun by key begins: at the pointer if that is on the breast, else in the middle of the view if that is,
   * else in the middle of as much of the breast as is seen. @returns {number[]} */
  beginning() {
    const pointer = this.inside ? this.map.getCoordinateFromPixel(this.pointer) : null;
    if (pointer && this.isOnBreast(pointer)) return pointer;
    const [left, lower, right, upper] = this.seen();
    const middle = [(left + right) / 2, (lower + upper) / 2];
    const runs = this.breastSeen();
    if (this.isOnBreast(middle) || !runs.length) return middle;
    const [y, x0, x1] = runs[Math.floor(runs.length / 2)];
    return [(x0 + x1) / 2, y];
  }

  /** @param {number} factor */
  zoom(factor) {
    const view = this.map.getView();
    view.setResolution(Math.max(1 / 16, (view.getResolution() ?? 1) / factor));
  }

  /** @param {number} across @param {number} down in tenths of the view */
  pan(across, down) {
    const view = this.map.getView();
    const [width, height] = this.map.getSize() ?? [1, 1];
    const step = (view.getResolution() ?? 1) / 10;
    const [x, y] = view.getCenter() ?? [0, 0];
    view.setCenter([x + across * width * step, y - down * height * step]);
  }

  /** @param {Shown[]} shown @param {string|null} selected */
  showBoxes(shown, selected) {
    this.selected = selected;
    this.boxes.clear(true);
    const crowded = shown.length > MOST_LABELLED; // texts of hundreds of boxes would hide the breast
    this.boxes.addFeatures(shown.map((one) => {
      const feature = new Feature({geometry: fromExtent(this.toScreen(one.box)), shown: one, crowded});
      feature.setId(one.id);
      return feature;
    }));
  }

  /** @param {Iterable<string>} ids */
  light(ids) {
    this.lit = new Set(ids);
    this.boxes.changed();
  }

  /** A picture over the image, the same way up as it hangs. @param {{picture: string, extent: number[]}|null} map */
  showHeat(map) {
    this.heat.setVisible(Boolean(map));
    if (map) {
      this.heat.setSource(new ImageStaticSource({url: map.picture, imageExtent: this.toScreen(map.extent), projection: this.projection, interpolate: true}));
    }
  }

  /** @param {boolean} on */
  magnify(on) {
    if (on === Boolean(this.magnifier)) return;
    this.magnifier?.dispose();
    this.magnifier = on ? new Magnifier(this) : null;
    if (!this.pointer.length) this.pointer = (this.map.getSize() ?? [0, 0]).map((side) => side / 2);
    const at = this.map.getCoordinateFromPixel(this.pointer);
    if (at) this.magnifier?.at(at, this.pointer);
  }

  /** @param {number[]} box */
  centreOn(box) {
    const [x0, y0, x1, y1] = this.toScreen(box);
    const seen = this.map.getView().calculateExtent(this.map.getSize());
    if (x0 < seen[0] || x1 > seen[2] || y0 < seen[1] || y1 > seen[3]) this.map.getView().setCenter([(x0 + x1) / 2, (y0 + y1) / 2]);
  }

  /** Where a box begins that is drawn by key: a square, a quarter of the shorter side of what is seen. */
  firstBox() {
    const [left, lower, right, upper] = this.seen();
    const half = Math.min(right - left, upper - lower, this.extent[2], -this.extent[1]) / 8;
    const [x, y] = this.madeVisible(this.beginning(), half);
    return this.toFile([x - half, y - half, x + half, y + half]);
  }

  /** A place, moved so that what is drawn around it lies on the image and is seen. @param {number[]} at @param {number} half */
  madeVisible([x, y], half) {
    if (!holds(this.seen(), [x, y])) this.map.getView().setCenter([x, y]);
    const [left, lower, right, upper] = this.seen();
    const [, bottom, width] = this.extent;
    const within = (/** @type {number} */ v, /** @type {number} */ least, /** @type {number} */ most) => (least > most ? v : Math.min(Math.max(v, least), most));
    const place = [within(x, Math.max(left, 0) + half, Math.min(right, width) - half), within(y, Math.max(lower, bottom) + half, Math.min(upper, 0) - half)];
    if (place[0] - half < left || place[0] + half > right || place[1] - half < lower || place[1] + half > upper) this.map.getView().setCenter(place);
    return place;
  }

  /** From x0 y0 x1 y1 in the file's pixels. @param {number[]} box @returns {number[]} */
  toScreen([x0, y0, x1, y1]) {
    const {columns, rows, mirrored, upside_down: upsideDown} = this.display;
    const [left, right] = mirrored ? [columns - x1, columns - x0] : [x0, x1];
    const [top, bottom] = upsideDown ? [rows - y1, rows - y0] : [y0, y1];
    return [left, -bottom, right, -top];
  }

  /** To x0 y0 x1 y1 in the file's pixels, cut at the image's edge, to a hundredth. @param {number[]} extent @returns {number[]} */
  toFile([left, lower, right, upper]) {
    const {columns, rows, mirrored, upside_down: upsideDown} = this.display;
    const [x0, x1] = mirrored ? [columns - right, columns - left] : [left, right];
    const [y0, y1] = upsideDown ? [rows + lower, rows + upper] : [-upper, -lower];
    const cut = (/** @type {number} */ v, /** @type {number} */ most) => Math.round(Math.min(Math.max(v, 0), most) * 100) / 100;
    return [cut(x0, columns), cut(y0, rows), cut(x1, columns), cut(y1, rows)];
  }

  /** @param {any} feature */
  styleOf(feature) {
    const shown = /** @type {Shown|undefined} */ (feature.get('shown'));
    if (!shown) return new Style({stroke: new Stroke({color: '#6cb2ff', width: 2}), text: label(feature.get('length') ?? '', '#6cb2ff')});
    const chosen = shown.id === this.selected;
    const stroke = new Stroke({color: shown.colour, width: chosen ? 4 : 2, lineDash: shown.dashed ? [6, 5] : undefined});
    const styles = [new Style({stroke, zIndex: chosen ? 2 : 1})];
    if (this.lit.has(shown.id)) styles.unshift(new Style({stroke: new Stroke({color: '#ffffff', width: 9}), fill: new Fill({color: 'rgba(255,255,255,0.18)'}), zIndex: 0}));
    if (shown.text && !feature.get('crowded')) {
      const [left, , right, upper] = feature.getGeometry().getExtent();
      styles.push(new Style({geometry: new Point([(left + right) / 2, upper]), text: label(shown.text, shown.colour), zIndex: 3}));
    }
    return styles;
  }

  /** In millimetres where the file says how far apart pixels are. @param {number[]} from @param {number[]} to */
  lengthOf([x0, y0], [x1, y1]) {
    const spacing = this.display.spacing_mm;
    if (!spacing) return `${Math.hypot(x1 - x0, y1 - y0).toFixed(0)} pixels (no spacing in the file)`;
    return `${Math.hypot((x1 - x0) * spacing[1], (y1 - y0) * spacing[0]).toFixed(1)} mm`;
  }

  /** @param {number[]} box in pixels of the file */
  sizeOf([x0, y0, x1, y1]) {
    const spacing = this.display.spacing_mm;
    if (!spacing) return `${(x1 - x0).toFixed(0)} × ${(y1 - y0).toFixed(0)} pixels (no spacing in the file)`;
    return `${((x1 - x0) * spacing[1]).toFixed(1)} × ${((y1 - y0) * spacing[0]).toFixed(1)} mm`;
  }

  /** @param {any} feature */
  measured(feature) {
    const [from, to] = feature.getGeometry().getCoordinates();
    this.lastMeasure = this.lengthOf(from, to);
    feature.set('length', this.lastMeasure);
    if (!this.lines.hasFeature(feature)) this.lines.addFeature(feature);
    this.told.value(`${this.image.name}  ${this.lastMeasure}`);
  }

  /** A line from where the button is pressed to where it is let go. */
  measureDrag() {
    /** @type {Feature<LineString>|null} */
    let line = null;
    return new PointerInteraction({
      handleDownEvent: (/** @type {any} */ event) => {
        if (event.originalEvent.button !== 0) return false;
        line = new Feature(new LineString([event.coordinate, event.coordinate]));
        return true;
      },
      handleDragEvent: (/** @type {any} */ event) => {
        const drawn = line?.getGeometry();
        if (!line || !drawn) return;
        drawn.setCoordinates([drawn.getFirstCoordinate(), event.coordinate]);
        this.measured(line);
      },
      stopDown: () => true,
    });
  }

  /** A line by keys: put on the breast, then its end, or its beginning, is moved. */
  measureByKey() {
    const [left, lower, right, upper] = this.seen();
    const half = Math.min(right - left, upper - lower, this.extent[2], -this.extent[1]) / 8;
    const [x, y] = this.madeVisible(this.beginning(), half);
    this.byKey = new Feature(new LineString([[x - half, y], [x + half, y]]));
    this.measured(this.byKey);
  }

  /** @param {number} dx @param {number} dy in pixels of the screen @param {boolean} beginning @returns {boolean} whether there is such a line */
  moveMeasure(dx, dy, beginning) {
    const line = this.byKey?.getGeometry();
    if (!line || !this.byKey) return false;
    const step = this.map.getView().getResolution() ?? 1;
    const ends = line.getCoordinates();
    const place = beginning ? 0 : 1;
    ends[place] = [ends[place][0] + dx * step, ends[place][1] - dy * step];
    line.setCoordinates(ends);
    this.measured(this.byKey);
    return true;
  }

  clearMeasures() {
    this.byKey = undefined;
    this.lines.clear(true);
  }

  /** @param {any} event */
  tellValue(event) {
    const [x, y] = event.coordinate;
    const {columns, rows, scale, offset} = this.display;
    if (x < 0 || y > 0 || x >= columns || -y >= rows) return this.told.value('');
    const [fileX, fileY] = this.toFile([x, y, x, y]);
    let text = `${this.image.name}  x ${Math.floor(fileX)}  y ${Math.floor(fileY)}`;
    const data = this.layer.getData(event.pixel);
    if (hasWebGL && data instanceof Float32Array) text += `  value ${this.isNative() ? '' : '≈ '}${Math.round(data[0] * scale + offset)}`;
    return this.told.value(text);
  }

  isNative() {
    return (this.map.getView().getResolution() ?? 1) <= 1;
  }

  /** @param {string|null} id */
  tellOver(id) {
    if (id === this.under) return;
    this.under = id;
    this.told.over(id);
  }

  /** While the middle button is held. */
  magnifyWhileHeld() {
    let before = false;
    return new PointerInteraction({
      handleDownEvent: (/** @type {any} */ event) => {
        if (event.originalEvent.button !== 1) return false;
        before = Boolean(this.magnifier);
        this.pointer = event.pixel;
        this.magnify(true);
        return true;
      },
      handleDragEvent: (/** @type {any} */ event) => this.magnifier?.at(event.coordinate, event.pixel),
      handleUpEvent: () => {
        this.magnify(before);
        return false;
      },
    });
  }

  /** Drag with the right button: across for the width of the window, up and down for its level. */
  windowDrag() {
    let last = [0, 0];
    return new PointerInteraction({
      handleDownEvent: (/** @type {any} */ event) => {
        last = event.pixel;
        return event.originalEvent.button === 2;
      },
      handleDragEvent: (/** @type {any} */ event) => {
        this.told.windowed(event.pixel[0] - last[0], event.pixel[1] - last[1]);
        last = event.pixel;
      },
      stopDown: () => true,
    });
  }

  /** Choose a box, move it by its inside, and change its size by its edges and corners. */
  boxEdit() {
    /** @type {{feature: any, extent: number[], from: number[], edges: boolean[], changed: boolean}|null} */
    let held = null;
    return new PointerInteraction({
      handleDownEvent: (/** @type {any} */ event) => {
        if (event.originalEvent.button !== 0 || this.drawing.getActive() || this.measuring.getActive()) return false;
        const feature = this.featureAt(event.pixel);
        const id = feature?.getId() ?? null;
        if (!feature || id !== this.selected || !this.editable || feature.get('shown').fixed) {
          this.pressed = event.pixel;
          return false;
        }
        const extent = feature.getGeometry().getExtent().slice();
        held = {feature, extent, from: event.coordinate, edges: this.edgesAt(extent, event.pixel), changed: false};
        return true;
      },
      handleDragEvent: (/** @type {any} */ event) => {
        if (!held) return;
        const [dx, dy] = [event.coordinate[0] - held.from[0], event.coordinate[1] - held.from[1]];
        const whole = !held.edges.some(Boolean);
        const next = held.extent.map((edge, place) => (whole || held?.edges[place] ? edge + (place % 2 ? dy : dx) : edge));
        if (next[2] - next[0] < SMALLEST_BOX_PX || next[3] - next[1] < SMALLEST_BOX_PX) return;
        held.feature.setGeometry(fromExtent(next));
        held.changed = true;
      },
      handleUpEvent: () => {
        if (held?.changed) this.told.moved(String(held.feature.getId()), this.toFile(held.feature.getGeometry().getExtent()));
        held = null;
        return false;
      },
      handleMoveEvent: () => {},
    });
  }

  /** A click that dragged nothing chooses the box under it, or none. */
  watchClicks() {
    this.map.on('click', (/** @type {any} */ event) => {
      if (this.drawing.getActive() || this.measuring.getActive()) return;
      const feature = this.featureAt(event.pixel);
      this.told.picked(feature ? String(feature.getId()) : null);
    });
  }

  /** The smallest box at a place; the chosen one first. @param {number[]} pixel */
  featureAt(pixel) {
    /** @type {any[]} */
    const found = [];
    const at = this.map.getCoordinateFromPixel(pixel);
    if (!at) return null; // no frame was drawn yet
    const [x, y] = at;
    const margin = EDGE_PX * (this.map.getView().getResolution() ?? 1);
    this.boxes.forEachFeatureInExtent([x - margin, y - margin, x + margin, y + margin], (/** @type {any} */ feature) => {
      if (feature.get('shown')) found.push(feature);
    });
    const size = (/** @type {any} */ feature) => (feature.getId() === this.selected ? -1 : feature.getGeometry().getArea());
    return found.sort((one, other) => size(one) - size(other))[0] ?? null;
  }

  /** Which edges (left, lower, right, upper) are held at a place. @param {number[]} extent @param {number[]} pixel */
  edgesAt(extent, pixel) {
    const [left, lower] = this.map.getPixelFromCoordinate([extent[0], extent[1]]);
    const [right, upper] = this.map.getPixelFromCoordinate([extent[2], extent[3]]);
    const near = (/** @type {number} */ one, /** @type {number} */ other) => Math.abs(one - other) <= EDGE_PX;
    const edges = [near(pixel[0], left), near(pixel[1], lower), near(pixel[0], right), near(pixel[1], upper)];
    if (edges[0] && edges[2]) edges[0] = false;
    if (edges[1] && edges[3]) edges[3] = false;
    return edges;
  }

  dispose() {
    clearTimeout(this.later);
    clearTimeout(this.rest);
    this.lastWindowed = Infinity; // a frame that is still drawn begins no rest
    this.magnify(false);
    // A frame that was drawn has asked for coarser tiles, and still needs the layer for them: it ends after that.
    const {map, layer} = this;
    layer.setPreload(0);
    setTimeout(() => {
      map.setTarget(undefined);
      map.dispose();
      layer.dispose();
    }, 200);
  }
}

/** Pixels of an image on one of the screen, for all of it to be seen. @param {Size} size @param {number} width @param {number} height */
export function fitting({rows, columns}, width, height) {
  return Math.max(columns / Math.max(width, 1), rows / Math.max(height, 1)) * 1.02;
}

/** @param {number[]} extent @param {number[]} at */
function holds([left, lower, right, upper], [x, y]) {
  return x >= left && x <= right && y >= lower && y <= upper;
}

/** The values of a tile, of which first all low bytes come, then all high ones. @param {Uint8Array} bytes */
function valuesOf(bytes) {
  const count = bytes.length / 2;
  const values = new Float32Array(count);
  for (let at = 0; at < count; at += 1) values[at] = bytes[at] | (bytes[count + at] << 8);
  return values;
}

/** The window that a curve of the file is. @param {Display} display @param {number} curve */
export function windowOf(display, curve) {
  const {values} = display.curves[curve];
  return {low: values[0], high: values[values.length - 1]};
}

/** @param {string} text @param {string} colour */
function label(text, colour) {
  return new Text({
    text, font: 'bold 13px system-ui, sans-serif', fill: new Fill({color: colour}), stroke: new Stroke({color: '#000', width: 3}), overflow: true,
    textBaseline: 'bottom', offsetY: -3, textAlign: 'center',
  });
}
