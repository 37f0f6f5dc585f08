/** Owns what the compiler knows of the peers: that they exist. They are installed only for the bench. */
declare module '@jax-js/jax'
declare module '@tensorflow/tfjs-core'
declare module '@tensorflow/tfjs-core/dist/register_all_gradients'
declare module '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops'
declare module '@tensorflow/tfjs-backend-cpu'
declare module '@tensorflow/tfjs-backend-webgpu'
declare module 'onnxruntime-web/webgpu'
