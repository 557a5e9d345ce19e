// What static/vendor/openlayers.js holds. With ol 10.11.0 and esbuild installed by npm:
// npx esbuild openlayers-entry.js --bundle --format=esm --minify --outfile=openlayers.js
export {default as Map} from 'ol/Map.js';
export {default as View} from 'ol/View.js';
export {default as Feature} from 'ol/Feature.js';
export {default as Overlay} from 'ol/Overlay.js';
export {default as Projection} from 'ol/proj/Projection.js';
export {default as TileGrid} from 'ol/tilegrid/TileGrid.js';
export {default as WebGLTileLayer} from 'ol/layer/WebGLTile.js';
export {default as TileLayer} from 'ol/layer/Tile.js';
export {default as VectorLayer} from 'ol/layer/Vector.js';
export {default as DataTileSource} from 'ol/source/DataTile.js';
export {default as TileImageSource} from 'ol/source/TileImage.js';
export {default as VectorSource} from 'ol/source/Vector.js';
export {default as Polygon, fromExtent} from 'ol/geom/Polygon.js';
export {default as Point} from 'ol/geom/Point.js';
export {default as LineString} from 'ol/geom/LineString.js';
export {default as PointerInteraction} from 'ol/interaction/Pointer.js';
export {default as DragBox} from 'ol/interaction/DragBox.js';
export {default as Draw} from 'ol/interaction/Draw.js';
export {default as DragPan} from 'ol/interaction/DragPan.js';
export {default as MouseWheelZoom} from 'ol/interaction/MouseWheelZoom.js';
export {Style, Stroke, Fill, Text, Circle} from 'ol/style.js';
