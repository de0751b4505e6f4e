// The database. Entra signs everybody in unless passwords are turned on.

param name string
param location string
param tags object
param databaseName string

param skuName string
@allowed([
  'Burstable'
  'GeneralPurpose'
  'MemoryOptimized'
])
param skuTier string

@allowed([
  '15'
  '16'
  '17'
  '18'
])
param version string

@minValue(32)
param storageGB int

@minValue(7)
@maxValue(35)
param backupDays int

@description('Whether rowgate_app signs in with a password.')
param usesPassword bool

@description('The password of the server\'s own administrator, whom the server wants as soon as it knows passwords. Nobody uses it.')
@secure()
param administratorPassword string

@description('The Entra administrator: migrations run as this one.')
param administratorObjectId string
param administratorName string
@allowed([
  'User'
  'Group'
  'ServicePrincipal'
])
param administratorType string

@description('Whether it can be reached from inside the virtual network only.')
param isPrivate bool

resource server 'Microsoft.DBforPostgreSQL/flexibleServers@2025-08-01' = {
  name: name
  location: location
  tags: tags
  sku: {
    name: skuName
    tier: skuTier
  }
  properties: {
    version: version
    createMode: 'Default'
    administratorLogin: usesPassword ? 'rowgate_server' : null
    administratorLoginPassword: usesPassword ? administratorPassword : null
    authConfig: {
      activeDirectoryAuth: 'Enabled'
      passwordAuth: usesPassword ? 'Enabled' : 'Disabled'
      tenantId: tenant().tenantId
    }
    storage: {
      storageSizeGB: storageGB
      autoGrow: 'Enabled'
    }
    backup: {
      backupRetentionDays: backupDays
      geoRedundantBackup: 'Disabled'
    }
    highAvailability: {
      mode: 'Disabled'
    }
    network: {
      publicNetworkAccess: isPrivate ? 'Disabled' : 'Enabled'
    }
  }
}

// The server takes one change at a time: each waits for the one before.

resource database 'Microsoft.DBforPostgreSQL/flexibleServers/databases@2025-08-01' = {
  parent: server
  name: databaseName
  properties: {
    charset: 'UTF8'
    collation: 'en_US.utf8'
  }
}

resource extensions 'Microsoft.DBforPostgreSQL/flexibleServers/configurations@2025-08-01' = {
  parent: server
  name: 'azure.extensions'
  properties: {
    value: 'VECTOR'
    source: 'user-override'
  }
  dependsOn: [
    database
  ]
}

resource encryption 'Microsoft.DBforPostgreSQL/flexibleServers/configurations@2025-08-01' = {
  parent: server
  name: 'require_secure_transport'
  properties: {
    value: 'on'
    source: 'user-override'
  }
  dependsOn: [
    extensions
  ]
}

// 0.0.0.0 stands for all of Azure, other people's subscriptions too: signing in is what keeps them out.
resource azure 'Microsoft.DBforPostgreSQL/flexibleServers/firewallRules@2025-08-01' = if (!isPrivate) {
  parent: server
  name: 'azure'
  properties: {
    startIpAddress: '0.0.0.0'
    endIpAddress: '0.0.0.0'
  }
  dependsOn: [
    encryption
  ]
}

resource administrator 'Microsoft.DBforPostgreSQL/flexibleServers/administrators@2025-08-01' = {
  parent: server
  name: administratorObjectId
  properties: {
    principalName: administratorName
    principalType: administratorType
    tenantId: tenant().tenantId
  }
  dependsOn: [
    azure
    encryption
  ]
}

output id string = server.id
output name string = server.name
output host string = server.properties.fullyQualifiedDomainName
output databaseName string = database.name
