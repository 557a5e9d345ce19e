// OHIF for mammograms with Mammoscope's marks: four views beside each other, the AI report on them from the start.
// Tried with OHIF 3.12.10 (tests/viewers/test_ohif.py). It is served as /app-config.js.
// The archive is asked under /dicom-web of the same address; the proxy in front of OHIF passes that on.

const VIEWS = { 399162004: "CC", "R-10242": "CC", 399368009: "MLO", "R-10226": "MLO" }; // SCT, and SRT before it

// Side and view of what a series shows first, such as "LMLO". OHIF's own attribute for the view fails on every object
// without one, a report for example, and leaves the page black.
function viewOf(series) {
  const image = (series.images || series.instances || [])[0] || series;
  const code = (image.ViewCodeSequence || [])[0] || image.ViewCodeSequence || {};
  return `${image.ImageLaterality || image.Laterality || ""}${VIEWS[code.CodeValue] || image.ViewPosition || ""}`;
}

function view(name) {
  return {
    seriesMatchingRules: [
      { attribute: "Modality", constraint: { equals: { value: "MG" } }, required: true },
      { attribute: "mammographyView", constraint: { equals: { value: name } }, required: true },
    ],
  };
}

// The breasts stand back to back: the chest wall of a right one is at the right edge of its image.
function pane(id, edge) {
  const point = [edge, 0.5];
  return {
    viewportOptions: {
      toolGroupId: "default",
      allowUnmatchedView: true,
      displayArea: {
        type: "FIT", storeAsInitialCamera: true, imageArea: [1, 1],
        imageCanvasPoint: { imagePoint: point, canvasPoint: point },
      },
    },
    displaySets: [{ id }],
  };
}

const fourViews = {
  id: "mammoscope-four-views",
  name: "Mammography, four views with marks",
  protocolMatchingRules: [
    { id: "mammography", weight: 500, attribute: "ModalitiesInStudy", constraint: { contains: "MG" }, required: true },
  ],
  toolGroupIds: ["default"],
  displaySetSelectors: { RCC: view("RCC"), LCC: view("LCC"), RMLO: view("RMLO"), LMLO: view("LMLO") },
  stages: [
    {
      name: "CC and MLO",
      viewportStructure: { layoutType: "grid", properties: { rows: 2, columns: 2 } },
      viewports: [pane("RCC", 1), pane("LCC", 0), pane("RMLO", 1), pane("LMLO", 0)],
    },
  ],
  numberOfPriorsReferenced: -1,
};

// A report that this node made, which is laid over the images without anybody asking for it.
const isOurs = (set) => set.Modality === "SR" && /^Mammoscope AI report/.test(set.SeriesDescription || "");

// Beside a mark of a report stands what the report says of it, and not what OHIF measures of the box.
function writeLabels() {
  for (const group of window.cornerstoneTools.ToolGroupManager.getAllToolGroups()) {
    if (!group.hasTool("RectangleROI")) continue;
    const measured = group.getToolConfiguration("RectangleROI", "getTextLines");
    const getTextLines = (data, target) => (data.label ? data.label.split(", ") : measured(data, target));
    group.setToolConfiguration("RectangleROI", { getTextLines });
  }
}

// The words go to where no breast is: beside a left one's mark as OHIF has it, to the left edge of a right one's image.
function placeLabels() {
  const { metaData, utilities } = window.cornerstone;
  for (const { data, metadata } of window.cornerstoneTools.annotation.state.getAllAnnotations()) {
    const image = metadata.toolName === "RectangleROI" && metaData.get("instance", metadata.referencedImageId);
    if (!image || !data.label || image.ImageLaterality !== "R") continue;
    const [, top] = utilities.worldToImageCoords(metadata.referencedImageId, data.handles.points[0]);
    const worldPosition = utilities.imageToWorldCoords(metadata.referencedImageId, [image.Columns / 50, top]);
    Object.assign(data.handles.textBox, { hasMoved: true, worldPosition });
  }
}

const marksOn = {
  id: "mammoscope-marks",
  preRegistration: ({ servicesManager }) => {
    const { hangingProtocolService } = servicesManager.services;
    hangingProtocolService.addCustomAttribute("mammographyView", "Side and view of a mammogram", viewOf);
  },
  getHangingProtocolModule: () => [{ name: fourViews.id, protocol: fourViews }],
  onModeEnter: ({ servicesManager, commandsManager }) => {
    const { displaySetService, hangingProtocolService } = servicesManager.services;
    const done = new Set();
    const show = async () => {
      // Of several reports the latest: those before it were replaced.
      const reports = displaySetService.getActiveDisplaySets().filter(isOurs);
      const latest = reports.sort((one, other) => order(other).localeCompare(order(one)))[0];
      if (!latest || done.has(latest.displaySetInstanceUID)) return;
      done.add(latest.displaySetInstanceUID);
      await latest.load();
      writeLabels();
      commandsManager.runCommand("hydrateStructuredReport", { displaySetInstanceUID: latest.displaySetInstanceUID });
      placeLabels();
      window.cornerstone.getRenderingEngines().forEach((engine) => engine.render());
    };
    const order = ({ instance }) => `${instance?.ContentDate || ""}${instance?.ContentTime || ""}`;
    displaySetService.subscribe(displaySetService.EVENTS.DISPLAY_SETS_ADDED, () => setTimeout(show, 500));
    hangingProtocolService.subscribe(hangingProtocolService.EVENTS.PROTOCOL_CHANGED, () => setTimeout(show, 500));
  },
};

window.config = {
  routerBasename: null,
  extensions: [marksOn],
  modes: [],
  modesConfiguration: { "@ohif/mode-longitudinal": { hangingProtocol: { $set: [fourViews.id, "default"] } } },
  customizationService: {},
  showStudyList: true,
  maxNumberOfWebWorkers: 3,
  showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: false,
  showLoadingIndicator: true,
  strictZSpacingForVolumeViewport: true,
  disableConfirmationPrompts: true,
  investigationalUseDialog: { option: "never" },
  defaultDataSourceName: "archive",
  dataSources: [
    {
      namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
      sourceName: "archive",
      configuration: {
        friendlyName: "Archive", name: "archive",
        qidoRoot: "/dicom-web", wadoRoot: "/dicom-web", wadoUriRoot: "/dicom-web",
        qidoSupportsIncludeField: false, imageRendering: "wadors", thumbnailRendering: "wadors",
        enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true,
        omitQuotationForMultipartRequest: true,
      },
    },
  ],
};
