/** The gpu backend. See backend.ts. */

export { gpu } from './backend.ts'
