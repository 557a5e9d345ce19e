export { adaptersSEG, adaptersSR } from "@cornerstonejs/adapters";
export * as core from "@cornerstonejs/core";
export { default as dcmjs } from "dcmjs";
