// @ts-check
/** A round glass over a view: what is under the pointer, or in the middle, at twice its native pixels. */

import {Map as OlMap, View} from './vendor/openlayers.js';

const SMALLEST = 3;

export class Magnifier {
  /** @param {import('./image_view.js').ImageView} view */
  constructor(view) {
    this.view = view;
    this.element = document.createElement('div');
    this.element.className = 'magnifier';
    this.element.setAttribute('aria-hidden', 'true');
    view.map.getTargetElement()?.append(this.element);
    this.layer = view.newLayer();
    const seen = view.map.getView().getResolution() ?? 1;
    this.map = new OlMap({
      target: this.element,
      controls: [],
      interactions: [],
      pixelRatio: Math.min(window.devicePixelRatio, 2),
      layers: [this.layer],
      view: new View({projection: view.projection, center: [0, 0], resolution: Math.min(0.5, seen / SMALLEST), minResolution: 1 / 64, enableRotation: false}),
    });
  }

  /** @param {number[]} coordinate @param {number[]} pixel of the view */
  at(coordinate, pixel) {
    this.element.style.left = `${pixel[0]}px`;
    this.element.style.top = `${pixel[1]}px`;
    this.map.getView().setCenter(coordinate);
  }

  dispose() {
    const {map, layer, element} = this;
    element.remove();
    layer.setPreload(0);
    setTimeout(() => {
      map.setTarget(undefined);
      map.dispose();
      layer.dispose();
    }, 200);
  }
}
