// dwv with what a page needs to show an image and, over it, what a report says. window.show(addresses) opens files one
// after the other and gives, for each, what was wrong with it or null; window.place(rows, columns) says where the
// first of them, an image of that size, lies on the screen.
import { App, AppOptions, ToolConfig, ViewConfig } from "./dwv.mjs";

const shapes = ["Rectangle", "Roi", "Ruler", "Circle", "Ellipse", "Arrow", "Protractor"];

window.show = async (addresses) => {
  const options = new AppOptions({ "*": [new ViewConfig("pane")] });
  options.tools = { Draw: new ToolConfig(shapes) };
  options.viewOnFirstLoadItem = false;
  window.app = new App();
  window.app.init(options);
  const said = [];
  for (const address of addresses) said.push(await open(window.app, address));
  return said;
};

function open(app, address) {
  return new Promise((resolve) => {
    const end = (problem) => {
      app.removeEventListener("load", loaded);
      app.removeEventListener("error", failed);
      resolve(problem);
    };
    const failed = ({ error }) => end(String(error));
    const loaded = ({ dataid }) => {
      try {
        app.render(dataid);
        end(null);
      } catch (error) {
        end(String(error));
      }
    };
    app.addEventListener("load", loaded);
    app.addEventListener("error", failed);
    app.loadURLs([address]);
  });
}

window.place = (rows, columns) => {
  const layer = window.app.getLayerGroupByDivId("pane")?.getViewLayers()[0];
  if (!layer) return null;
  const at = (x, y) => layer.planePosToDisplay({ getX: () => x, getY: () => y });
  const [first, middle] = [at(0, 0), at(columns / 2, rows / 2)]; // it gives no point at the pane's very edge
  const [left, top] = [first.getX(), first.getY()];
  return [left, top, 2 * middle.getX() - left, 2 * middle.getY() - top];
};
