/** Owns where a page finds ONNX Runtime's WebAssembly; in Node it finds its own. */
import mjs from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url'
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url'

export const wasmPaths = { mjs, wasm }
