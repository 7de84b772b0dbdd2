import { freestyle } from "freestyle";
const { vm } = await freestyle.vms.create();
const result = await vm.exec("echo 'hello from freestyle'");
console.log(result);
