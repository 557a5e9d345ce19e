// Reads reports and segmentations as OHIF does, by Cornerstone's adapters and dcmjs, and says in JSON what it found.
//   node read.cjs image.dcm... result.dcm...
const fs = require("fs");
console.log = console.warn = console.info = (...words) => process.stderr.write(words.join(" ").slice(0, 500) + "\n");
const { adaptersSR, adaptersSEG, core, dcmjs } = require(process.env.BUNDLE);

const files = process.argv.slice(2).map((name) => {
  const bytes = fs.readFileSync(name);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const message = dcmjs.data.DicomMessage.readFile(buffer);
  return { buffer, dataset: dcmjs.data.DicomMetaDictionary.naturalizeDataset(message.dict) };
});
const images = files.filter(({ dataset }) => dataset.Modality === "MG").map(({ dataset }) => dataset);
const imageId = (uid) => `image:${uid}`;
const imageOf = (id) => images.find((dataset) => imageId(dataset.SOPInstanceUID) === id);

// A projection has no place in the patient. Like OHIF, its plane is put where its pixels are.
core.metaData.addProvider((kind, id) => {
  const image = imageOf(id);
  if (!image) return undefined;
  const spacing = image.PixelSpacing || image.ImagerPixelSpacing;
  if (kind === "imagePlaneModule")
    return {
      rows: image.Rows, columns: image.Columns, imagePositionPatient: [0, 0, 0], rowCosines: [1, 0, 0],
      columnCosines: [0, 1, 0], imageOrientationPatient: [1, 0, 0, 0, 1, 0], rowPixelSpacing: spacing[0],
      columnPixelSpacing: spacing[1], pixelSpacing: spacing, frameOfReferenceUID: image.FrameOfReferenceUID,
    };
  if (kind === "instance") return image;
  if (kind === "generalSeriesModule") return { modality: image.Modality };
  return undefined;
}, 1000);

function report(dataset) {
  const ids = Object.fromEntries(images.map((image) => [`${image.SOPInstanceUID}:1`, imageId(image.SOPInstanceUID)]));
  const state = adaptersSR.Cornerstone3D.MeasurementReport.generateToolState(dataset, ids, core.metaData, {
    getToolClass: () => adaptersSR.Cornerstone3D.RectangleROI,
  });
  return Object.entries(state).flatMap(([tool, measurements]) =>
    measurements.map((measurement) => {
      const id = measurement.annotation.metadata.referencedImageId;
      const points = measurement.annotation.data.handles.points;
      const pixels = points.map((point) => core.utilities.worldToImageCoords(id, point));
      return {
        tool,
        image: imageOf(id).SOPInstanceUID,
        tracking: measurement.TrackingUniqueIdentifier,
        label: measurement.annotation.data.label,
        finding: measurement.finding && measurement.finding.CodeMeaning,
        box: [
          Math.min(...pixels.map(([x]) => x)), Math.min(...pixels.map(([, y]) => y)),
          Math.max(...pixels.map(([x]) => x)), Math.max(...pixels.map(([, y]) => y)),
        ],
      };
    })
  );
}

function segments(dataset) {
  const described = [].concat(dataset.SegmentSequence);
  const frame = dataset.Rows * dataset.Columns;
  const bits = dcmjs.data.BitArray.unpack(dataset.PixelData[0] || dataset.PixelData);
  const shared = [].concat(dataset.SharedFunctionalGroupsSequence)[0];
  return described.map((segment, number) => {
    const mask = bits.slice(number * frame, (number + 1) * frame);
    let box = [Infinity, Infinity, -Infinity, -Infinity];
    mask.forEach((bit, at) => {
      if (!bit) return;
      const x = at % dataset.Columns, y = Math.floor(at / dataset.Columns);
      box = [Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x + 1), Math.max(box[3], y + 1)];
    });
    return {
      label: segment.SegmentLabel, tracking: segment.TrackingUID, box,
      spacing: [].concat(shared.PixelMeasuresSequence)[0].PixelSpacing,
    };
  });
}

async function inCornerstone(buffer, dataset) {
  const series = [].concat(dataset.ReferencedSeriesSequence)[0];
  const uids = [].concat(series.ReferencedInstanceSequence).map((one) => one.ReferencedSOPInstanceUID);
  try {
    await adaptersSEG.Cornerstone3D.Segmentation.createFromDICOMSegBuffer(uids.map(imageId), buffer, {
      metadataProvider: core.metaData,
    });
    return "shown";
  } catch (error) {
    return String(error.message || error).split("\n")[0];
  }
}

(async () => {
  const said = { reports: [], segmentations: [] };
  for (const { buffer, dataset } of files) {
    if (dataset.Modality === "SR") said.reports.push(report(dataset));
    if (dataset.Modality === "SEG")
      said.segmentations.push({ segments: segments(dataset), cornerstone: await inCornerstone(buffer, dataset) });
  }
  process.stdout.write(JSON.stringify(said));
  process.exit(0);
})();
