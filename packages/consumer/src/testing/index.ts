export { type ContractCheck, leaseTableContract } from './lease-table-contract.js';
