// @ts-check
/** One mammogram on the screen: 16-bit tiles windowed on the graphics card, boxes, and the mouse. */

import {
  DataTileSource, DragBox, DragPan, Draw, Feature, Fill, Map as OlMap, MouseWheelZoom, Point, PointerInteraction, Projection, Stroke, Style, Text,
  TileGrid, TileImageSource, TileLayer, VectorLayer, VectorSource, View, WebGLTileLayer, fromExtent,
} from './vendor/openlayers.js';

/** @typedef {import('./requests.js').Mark} Mark */
/** @typedef {{name: string, values: number[], greys: number[]}} Curve */
/** @typedef {{digest: string, spacing_mm: number[]|null, tile: number, rows: number, columns: number, levels: number[][], scale: number,
 *   offset: number, curves: Curve[], padding: number[]|null, mirrored: boolean, upside_down: boolean}} Display */
/** @typedef {{id: string, box: number[], colour: string, dashed: boolean, text: string}} Shown */
/** @typedef {{low: number, high: number, inverted: boolean, curve: number}} Window */

const EDGE_PX = 8;
const SMALLEST_BOX_PX = 3;
const MOST_LABELLED = 100;

export const hasWebGL = (() => {
  if (new URLSearchParams(location.search).get('webgl') === 'off') return false;
  const gl = document.createElement('canvas').getContext('webgl2') ?? document.createElement('canvas').getContext('webgl');
  return Boolean(gl && gl.getExtension && (gl instanceof WebGL2RenderingContext || gl.getExtension('OES_texture_float')));
})();

/** A view of one image, in an element of its own. */
export class ImageView {
  /**
   * @param {HTMLElement} element
   * @param {{id: number, name: string, laterality: string|null}} image
   * @param {Display} display
   * @param {{chosen: () => void, picked: (mark: string|null) => void, moved: (mark: string, box: number[]) => void,
   *   drawn: (box: number[]) => void, windowed: (dx: number, dy: number) => void, value: (text: string) => void}} told
   */
  constructor(element, image, display, told) {
    this.image = image;
    this.display = display;
    this.told = told;
    /** @type {string|null} */
    this.selected = null;
    this.editable = true;
    const {rows, columns, levels} = display;
    this.extent = [0, -rows, columns, 0];
    const projection = new Projection({code: `image-${image.id}`, units: 'pixels', extent: this.extent});
    this.grid = new TileGrid({
      extent: this.extent, origin: [0, 0], tileSize: display.tile, resolutions: levels.map((_, level) => 2 ** (levels.length - 1 - level)),
    });
    this.projection = projection;
    this.window = /** @type {Window} */ ({...windowOf(display, 0), inverted: false, curve: 0});
    this.layer = hasWebGL ? this.cardLayer() : this.pictureLayer();
    this.boxes = new VectorSource({wrapX: false});
    const map = new OlMap({
      target: element,
      controls: [],
      interactions: [],
      pixelRatio: Math.min(window.devicePixelRatio, 2),
      layers: [this.layer, new VectorLayer({source: this.boxes, style: (feature) => this.styleOf(feature), updateWhileInteracting: true})],
      view: new View({
        projection, center: [columns / 2, -rows / 2], resolution: 1, minResolution: 1 / 16, maxResolution: 64, enableRotation: false,
        smoothExtentConstraint: false, showFullExtent: true, constrainOnlyCenter: true, extent: this.extent,
      }),
    });
    this.map = map;
    map.addInteraction(new DragPan({condition: (/** @type {any} */ event) => event.originalEvent.button === 0 || event.originalEvent.button === 1}));
    map.addInteraction(new MouseWheelZoom({constrainResolution: false}));
    map.addInteraction(this.windowDrag());
    map.addInteraction(this.boxEdit());
    this.drawing = new DragBox({className: 'ol-box', condition: (/** @type {any} */ event) => event.originalEvent.button === 0});
    this.drawing.setActive(false);
    this.drawing.on('boxend', () => {
      const box = this.toFile(this.drawing.getGeometry().getExtent());
      if (box[2] - box[0] >= SMALLEST_BOX_PX && box[3] - box[1] >= SMALLEST_BOX_PX) told.drawn(box);
    });
    map.addInteraction(this.drawing);
    this.measuring = new Draw({type: 'LineString', maxPoints: 2, source: undefined});
    this.measuring.setActive(false);
    this.measuring.on('drawend', (/** @type {any} */ event) => this.measured(event.feature));
    map.addInteraction(this.measuring);
    element.addEventListener('contextmenu', (event) => event.preventDefault());
    element.addEventListener('pointerdown', () => told.chosen(), true);
    map.on('pointermove', (/** @type {any} */ event) => this.tellValue(event));
  }

  /** The card does the windowing: tiles stay as stored, and a window is two numbers. */
  cardLayer() {
    const {display} = this;
    const source = new DataTileSource({
      bandCount: 1, interpolate: true, wrapX: false, transition: 0, tileGrid: this.grid, projection: this.projection, tileSize: display.tile,
      loader: async (/** @type {number} */ level, /** @type {number} */ column, /** @type {number} */ row, /** @type {{signal?: AbortSignal}} */ how) => {
        const response = await fetch(this.tileUrl(level, column, row), {credentials: 'same-origin', signal: how?.signal});
        if (!response.ok) throw new Error(`tile ${response.status}`);
        return Float32Array.from(new Uint16Array(await response.arrayBuffer()));
      },
    });
    return new WebGLTileLayer({source, extent: this.extent, preload: Infinity, style: this.cardStyle(), cacheSize: 256});
  }

  cardStyle() {
    const {curves, padding} = this.display;
    const {values, greys} = curves[this.window.curve];
    const [first, last] = [values[0], values[values.length - 1]];
    const value = ['band', 1];
    const width = ['-', ['var', 'high'], ['var', 'low']];
    const moved = ['+', ['*', ['/', ['-', value, ['var', 'low']], width], last - first], first];
    const curve = ['interpolate', ['linear'], moved, ...values.flatMap((at, place) => [at, greys[place]])];
    const grey = ['abs', ['-', curve, ['var', 'inverted']]];
    const shown = padding ? ['case', ['between', value, padding[0] - 0.5, padding[1] + 0.5], 0, grey] : grey;
    const {low, high, inverted} = this.window;
    return {variables: {low, high, inverted: Number(inverted)}, color: ['array', shown, shown, shown, 1]};
  }

  /** Without WebGL the server windows, and each window is another picture. */
  pictureLayer() {
    const source = new TileImageSource({
      interpolate: true, wrapX: false, transition: 0, tileGrid: this.grid, projection: this.projection, tileUrlFunction: (/** @type {number[]} */ at) => this.pictureUrl(at),
    });
    return new TileLayer({source, extent: this.extent, preload: Infinity});
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
    if (!hasWebGL) {
      clearTimeout(this.later);
      this.later = setTimeout(() => {
        const source = this.layer.getSource();
        source.setTileUrlFunction((/** @type {number[]} */ at) => this.pictureUrl(at), this.pictureUrl([0, 0, 0]));
      }, 120);
    } else if (newCurve) this.layer.setStyle(this.cardStyle());
    else this.layer.updateStyleVariables({low: wanted.low, high: wanted.high, inverted: Number(wanted.inverted)});
  }

  /** The whole image, its chest wall at the edge where it hangs. @param {number} [resolution] */
  fit(resolution) {
    this.map.updateSize();
    const [width] = this.map.getSize() ?? [1, 1];
    const {rows, columns} = this.display;
    const wanted = resolution ?? this.fittingResolution();
    const room = (width * wanted - columns) / 2;
    const shift = {R: -room, L: room}[this.image.laterality ?? ''] ?? 0;
    const view = this.map.getView();
    view.setResolution(wanted);
    view.setCenter([columns / 2 + shift, -rows / 2]);
  }

  fittingResolution() {
    this.map.updateSize();
    const [width, height] = this.map.getSize() ?? [1, 1];
    return Math.max(this.display.columns / width, this.display.rows / height) * 1.02;
  }

  /** One pixel of the image on one of the screen. */
  nativePixels() {
    this.map.getView().setResolution(1 / Math.min(window.devicePixelRatio, 2));
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

  /** @param {number[]} box */
  centreOn(box) {
    const [x0, y0, x1, y1] = this.toScreen(box);
    const seen = this.map.getView().calculateExtent(this.map.getSize());
    if (x0 < seen[0] || x1 > seen[2] || y0 < seen[1] || y1 > seen[3]) this.map.getView().setCenter([(x0 + x1) / 2, (y0 + y1) / 2]);
  }

  /** A quarter of what is seen, in its middle: where a box begins that is drawn by key. */
  middleBox() {
    const [x0, y0, x1, y1] = this.map.getView().calculateExtent(this.map.getSize());
    const [w, h] = [(x1 - x0) / 8, (y1 - y0) / 8];
    return this.toFile([(x0 + x1) / 2 - w, (y0 + y1) / 2 - h, (x0 + x1) / 2 + w, (y0 + y1) / 2 + h]);
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
    const box = new Style({stroke, zIndex: chosen ? 2 : 1});
    if (!shown.text || feature.get('crowded')) return box;
    const [left, , right, upper] = feature.getGeometry().getExtent();
    const above = new Style({geometry: new Point([(left + right) / 2, upper]), text: label(shown.text, shown.colour), zIndex: 3});
    return [box, above];
  }

  /** @param {any} feature */
  measured(feature) {
    const [[x0, y0], [x1, y1]] = feature.getGeometry().getCoordinates();
    const spacing = this.display.spacing_mm;
    const length = spacing ? Math.hypot((x1 - x0) * spacing[1], (y1 - y0) * spacing[0]) : Math.hypot(x1 - x0, y1 - y0);
    feature.set('length', spacing ? `${length.toFixed(1)} mm` : `${length.toFixed(0)} pixels`);
    this.boxes.addFeature(feature);
    this.lastMeasure = feature.get('length');
  }

  /** @param {any} event */
  tellValue(event) {
    const [x, y] = event.coordinate;
    const {columns, rows, scale, offset} = this.display;
    if (x < 0 || y > 0 || x >= columns || -y >= rows) return this.told.value('');
    const [fileX, fileY] = this.toFile([x, y, x, y]);
    let text = `${this.image.name}  x ${Math.floor(fileX)}  y ${Math.floor(fileY)}`;
    const data = hasWebGL ? this.layer.getData(event.pixel) : null;
    if (data) text += `  value ${this.isNative() ? '' : '≈ '}${Math.round(data[0] * scale + offset)}`;
    return this.told.value(text);
  }

  isNative() {
    return (this.map.getView().getResolution() ?? 1) <= 1;
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
